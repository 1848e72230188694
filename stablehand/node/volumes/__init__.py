"""Volumes of pods: a module per kind; `manager` sets them up, refreshes and removes them. Never deletes data of
hostPath, nfs or claims."""
