"""Jobs: pods that run to completion, counted exactly once each.

controller   informers and the queue; one job at a time
counting     which pods count as what, and when a job is over; pure
policies     what podFailurePolicy and successPolicy say; pure
perindex     failures counted for each index (backoffLimitPerIndex); pure
podmaking    the pod of a job or of an index; pure
indexes      completion indexes as ranges ("0-2,5"); pure
"""

from stablehand.controllers.job.controller import JobController

__all__ = ["JobController"]
