"""What /metrics counts."""

import prometheus_client


class Metrics:
    """The metrics behind /metrics."""

    def __init__(self):
        self.registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.registry)

        def made(kind, name, about, *labels, **kwargs):
            return kind(
                f"specgan_{name}", about, labels, registry=self.registry, **kwargs
            )

        self.requests = made(
            prometheus_client.Counter, "requests", "Requests.", "signature", "status"
        )
        self.seconds = made(
            prometheus_client.Histogram,
            "request_seconds",
            "Seconds from a request to its answer.",
            "signature",
        )
        self.batch_rows = made(
            prometheus_client.Histogram,
            "batch_rows",
            "Rows computed together.",
            buckets=[2**i for i in range(9)],
        )
        self.queue = made(
            prometheus_client.Gauge, "queue_length", "Requests that wait."
        )
        self.version = made(
            prometheus_client.Gauge, "version", "The version served, or 0."
        )
        self.load_failures = made(
            prometheus_client.Counter, "load_failures", "Versions that failed to load."
        )
        self.connections = made(
            prometheus_client.Gauge, "connections", "Open connections."
        )

    def count(self, signature: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self.requests.labels(signature, status).inc()
        self.seconds.labels(signature).observe(seconds)
