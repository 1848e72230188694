"""metrics.k8s.io/v1beta1: what nodes and pods use, told from the kubelets' own figures when somebody asks.

points     the kubelet's figures and what two of them say about the time between; pure
scraping   asking the kubelets
serving    the API: NodeMetrics and PodMetrics, until an APIService gives the group to another server
"""

from stablehand.apiserver.metricsapi.serving import MetricsApi

__all__ = ["MetricsApi"]
