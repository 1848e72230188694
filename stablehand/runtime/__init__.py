"""What every control loop is made of: informers, a work queue, the reconcile loop, events.

Built on client alone, so that every loop runs against any conformant API server.
"""

from stablehand.runtime.controller import Controller, Result, Terminal
from stablehand.runtime.events import EventRecorder
from stablehand.runtime.expectations import Expectations
from stablehand.runtime.informer import Informer, Informers
from stablehand.runtime.newevents import NewEventRecorder
from stablehand.runtime.queue import WorkQueue

__all__ = [
    "Controller",
    "EventRecorder",
    "Expectations",
    "Informer",
    "Informers",
    "NewEventRecorder",
    "Result",
    "Terminal",
    "WorkQueue",
]
