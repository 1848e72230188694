"""The control loops. Each is a module or package of its own and meets the others only in the API.

`manager` runs them all; nothing else here imports more than its own.
"""

from stablehand.controllers.manager import ControllersConfig, names, run

__all__ = ["ControllersConfig", "names", "run"]
