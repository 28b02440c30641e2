"""Anything that looks like one of our objects, and is none, as hypothesis makes it."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from datalabd.api.storage import GRANT_EXPIRY

AT = "2026-05-05T20:00:00Z"

examples = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
"""How many are tried, however long that takes."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=8) | st.sampled_from([AT, "s-joe", "None"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    "metadata annotations name spec buckets bucketName lifecycleRules target bucketAccessRequests "
                    "bucketAccessGrants grantee permission grantedAt requestedAt discoverable principal users sessions "
                    f"status databases data {GRANT_EXPIRY}"
                ).split()
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=40,
)
