"""Priority and fairness: which FlowSchema a request falls under, how many of a priority level run at once, who waits.

`objects` are the FlowSchemas and levels every cluster has, `keeper` keeps them so, `rules` says which schema matches a
request, `levels` counts and queues, `control` joins them for the request chain. Requests of parts in this process are
not queued: they are the server's own.
"""
