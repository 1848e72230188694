"""The object that a server-side apply makes: what is applied laid over what is there, less what is no longer applied.

Values only; who owns what afterwards, and whether there are conflicts, is ownership.py's. Follows structured-merge-diff's
typed/merge.go and typed/remove.go.
"""

from __future__ import annotations

from typing import Any

from stablehand.machinery.fieldsets import FieldSet, child_schema, element_of, grouped, is_leaf, is_member
from stablehand.machinery.schema import ARRAY, S_ANY, Schema


def merge(schema: Schema, live: Any, applied: Any) -> Any:
    """The applied value laid over the live one; shares subtrees with both."""
    if applied is None:
        return None if schema.custom and type(live) not in (dict, list) else live
    if type(live) is not type(applied) or is_leaf(schema, applied):
        return applied
    if type(applied) is dict:
        result = dict(live)
        for key, value in applied.items():
            current = result.get(key)
            result[key] = value if current is None else merge(child_schema(schema, key), current, value)
        return result
    return _merge_lists(schema, live, applied)


def _merge_lists(schema: Schema, live: list[Any], applied: list[Any]) -> list[Any]:
    """The applied items in their order, woven into the live ones in theirs (visitListItems of structured-merge-diff's
    typed/merge.go)."""
    item_schema = schema.item or S_ANY
    ours = {element_of(schema, item): item for item in applied}
    theirs = grouped(schema, live)
    left, right = list(theirs), list(ours)
    shared = [element for element in right if element in theirs]
    out: list[Any] = []
    done: set[str] = set()

    def take(element: str) -> None:
        """One of ours; of several live items with its key none can be merged with, so it stands for all of them."""
        before = theirs.get(element, ())
        out.append(merge(item_schema, before[0], ours[element]) if len(before) == 1 else ours[element])
        done.add(element)
        if shared and shared[0] == element:
            shared.pop(0)

    at = to = 0
    while at < len(left) or to < len(right):
        if at < len(left):
            element = left[at]
            if element not in ours:
                out.extend(theirs[element])
                at += 1
                continue
            if to < len(right) and element == right[to]:
                take(element)
                at, to = at + 1, to + 1
                continue
            if element in done or (to < len(right) and shared and shared[0] != element):
                at += 1  # taken already, or to be taken when its turn comes
                continue
        if to < len(right):
            take(right[to])
            to += 1
    return out


def prune(schema: Schema, value: Any, last: FieldSet, owned: FieldSet) -> Any:
    """Removes what is in `last` and owned by no one now."""
    if type(value) is dict and not is_leaf(schema, value):
        result: Any = value
        for element, node in last.items():
            key = element[2:]
            if element == "." or key not in value:
                continue
            still = owned.get(element)
            if still is None:
                if result is value:
                    result = dict(value)
                del result[key]
            elif node:
                left = prune(child_schema(schema, key), value[key], node, still)
                if left is not value[key]:
                    if result is value:
                        result = dict(value)
                    result[key] = left
        return result
    if type(value) is list and schema.kind == ARRAY and not is_leaf(schema, value):
        item_schema = schema.item or S_ANY
        out = []
        same = True
        for item in value:
            element = element_of(schema, item)
            node, still = last.get(element), owned.get(element)
            if node is None:
                out.append(item)
                continue
            if still is None or (is_member(node) and not is_member(still)):
                same = False
                continue
            left = prune(item_schema, item, node, still) if node and still else item
            same = same and left is item
            out.append(left)
        return value if same else out
    return value
