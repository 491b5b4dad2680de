"""The gateway's metrics, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """All metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._count("requests", "Answers of POST /rank and refusals.", "status")
        self.seconds = self._seconds("request_seconds", "Seconds of POST /rank.")
        self.features_seconds = self._seconds("features_seconds", "Seconds of fetching features.")
        self.scoring_seconds = self._seconds("scoring_seconds", "Seconds of scoring in Triton.")
        self.candidates = self._count("candidates", "Candidates asked to rank.")
        self.unknown_items = self._count("unknown_items", "Candidates that the feature store did not know.")
        self.unknown_users = self._count("unknown_users", "Requests of users that the feature store did not know.")
        self.policies = self._count("policies", "Requests by what ranked them.", "policy")
        self.fallbacks = self._count("fallbacks", "Requests that no model could rank, by reason.", "reason")
        self.errors = self._count("errors", "Errors that the gateway went on after.", "part", "kind")
        self.impressions = self._count("impressions", "Impressions: sent, failed, lost.", "result")
        self.generation = Gauge(
            "generation", "Generation of the serving state.", namespace="freshrank", registry=self.registry
        )

    def _count(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, namespace="freshrank", registry=self.registry)

    def _seconds(self, name: str, meaning: str) -> Histogram:
        return Histogram(name, meaning, namespace="freshrank", registry=self.registry, buckets=_SECONDS)
