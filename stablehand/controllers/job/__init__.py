"""Jobs: pods that run to completion, counted exactly once each.

controller   informers and the queue; one job at a time
counting     which pods count as what, and when a job is over; pure
indexes      completion indexes as ranges ("0-2,5"); pure
"""

from stablehand.controllers.job.controller import JobController

__all__ = ["JobController"]
