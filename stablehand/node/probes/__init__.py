"""Probes of containers: `prober` runs them in time, `checks` asks one question of a container."""
