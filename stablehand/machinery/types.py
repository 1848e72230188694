"""The contract of machinery: API objects are plain dicts.

Objects read from a watch or an informer are shared: treat them as immutable, copy what you change
(`copy_object`). Nothing here does I/O.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import orjson

Obj: TypeAlias = dict[str, Any]


def copy_object(obj: Obj) -> Obj:
    """A deep copy of a JSON-shaped object (orjson round trip; three times faster than copy.deepcopy)."""
    result: Obj = orjson.loads(orjson.dumps(obj))
    return result
