"""Every metric of the process, on one page. Never a label per claim, user or namespace."""

from prometheus_client import REGISTRY, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LONG_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300)

CLIENT_REQUESTS = Counter(
    "rest_client_requests_total", "Requests to the API server, by status code.", ["code", "method", "host"]
)

KEYCLOAK_REQUESTS = Counter(
    "datalabd_keycloak_requests_total", "Requests to Keycloak, by status code.", ["code", "method"]
)
KEYCLOAK_SECONDS = Histogram(
    "datalabd_keycloak_request_seconds", "Time until Keycloak answered, or did not.", ["method"], buckets=_SECONDS
)

_QUEUE = ["name", "controller"]
QUEUE_DEPTH = Gauge("workqueue_depth", "Keys that wait for a worker.", _QUEUE)
QUEUE_ADDS = Counter("workqueue_adds_total", "Keys added.", _QUEUE)
QUEUE_RETRIES = Counter("workqueue_retries_total", "Keys added again after a failure.", _QUEUE)
QUEUE_WAIT = Histogram(
    "workqueue_queue_duration_seconds", "How long a key waited for a worker.", _QUEUE, buckets=_LONG_SECONDS
)
QUEUE_WORK = Histogram("workqueue_work_duration_seconds", "How long work on a key took.", _QUEUE, buckets=_LONG_SECONDS)
QUEUE_UNFINISHED = Gauge("workqueue_unfinished_work_seconds", "Sum of the time of all work in progress.", _QUEUE)
QUEUE_LONGEST = Gauge("workqueue_longest_running_processor_seconds", "Time of the longest work in progress.", _QUEUE)

RECONCILES = Counter("datalabd_reconcile_total", "Reconciles, by result.", ["controller", "result"])
RECONCILE_ERRORS = Counter("datalabd_reconcile_errors_total", "Reconciles that failed and are retried.", ["controller"])
RECONCILE_PANICS = Counter(
    "datalabd_reconcile_panics_total",
    "Reconciles that met a defect of datalabd; its log has the stack.",
    ["controller"],
)
RECONCILE_TERMINAL = Counter(
    "datalabd_reconcile_terminal_errors_total", "Reconciles that wait for a person to change something.", ["controller"]
)
RECONCILE_SECONDS = Histogram(
    "datalabd_reconcile_time_seconds", "Duration of one reconcile.", ["controller"], buckets=_LONG_SECONDS
)
ACTIVE_WORKERS = Gauge("datalabd_active_workers", "Workers busy with a key.", ["controller"])

WEBHOOK_REQUESTS = Counter("datalabd_webhook_requests_total", "Admission and conversion calls.", ["webhook", "code"])
WEBHOOK_IN_FLIGHT = Gauge("datalabd_webhook_requests_in_flight", "Calls being answered.", ["webhook"])
WEBHOOK_SECONDS = Histogram("datalabd_webhook_latency_seconds", "Time to answer.", ["webhook"], buckets=_SECONDS)

WATCH_RESTARTS = Counter(
    "datalabd_watch_restarts_total", "Watches that ended otherwise than by their timeout.", ["resource", "reason"]
)
UNREADABLE = Gauge(
    "datalabd_kind_unreadable",
    "1 while a kind that only some labs need cannot be read: the API server refuses, or its conversion fails.",
    ["resource"],
)
STORE_OBJECTS = Gauge("datalabd_store_objects", "Objects in the cache.", ["resource"])
LOOP_LAG = Histogram("datalabd_event_loop_lag_seconds", "How late a timer of the event loop fires.", buckets=_SECONDS)
REGISTRATIONS_MENDED = Counter(
    "datalabd_registrations_mended_total",
    "CRDs, webhook configurations and policies of ours that somebody changed or deleted, and that were put right.",
    ["kind", "name"],
)
CERTIFICATE_EXPIRY = Gauge(
    "datalabd_certificate_expiry_timestamp_seconds", "When the serving certificate expires, Unix time."
)
LEADER = Gauge("datalabd_leader", "1 while this replica holds the lease and writes.")
WRITTEN_OFTEN = Counter(
    "datalabd_objects_written_often_total",
    "Objects written 20 times within a minute, each counted once for every such minute.",
    ["resource"],
)
CONTESTED = Gauge("datalabd_contested_objects", "Objects that somebody sets back each time they are put right.")
UNPROTECTED_INGRESSES = Gauge(
    "datalabd_unprotected_ingresses", "Session Ingresses that lack the annotations of their environment's protection."
)
RULES_BROKEN = Gauge(
    "datalabd_rules_broken",
    "What of labs breaks a rule: it is older and goes on, or is not made.",
)
UNPROTECTED_FOUND = Counter(
    "datalabd_unprotected_ingresses_found_total", "Session Ingresses that were found without it, mended or not."
)

ISSUER_REQUESTS = Counter(
    "datalabd_issuer_requests_total", "Requests to the OpenID provider, by status code.", ["code", "method"]
)
TOKEN_VERIFICATIONS = Counter(
    "datalabd_token_verifications_total", "Tokens that were verified, by result: valid, or why not.", ["result"]
)

HTTP_REQUESTS = Counter(
    "datalabd_http_requests_total", "Requests to the Workspace API that were answered.", ["route", "method", "code"]
)
HTTP_SECONDS = Histogram(
    "datalabd_http_request_seconds", "Time until they were answered, streams left out.", ["route"], buckets=_SECONDS
)
HTTP_STREAMS = Gauge("datalabd_http_streams", "Streams of changes that are open.")

HOSTS_TAKEN = Gauge("datalabd_hosts_taken", "Hosts of labs' sessions for which a route answers that is not the lab's.")

__all__ = ["REGISTRY"]
