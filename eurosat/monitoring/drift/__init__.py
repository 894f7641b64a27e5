"""Drift: does the traffic of a service still look like the model's validation images?

The four families of tests and the sizes of windows and effects are in `families` and `windows`;
`report` writes the page and ``drift.json``, and `watch` and `server` repeat the comparison while a
service runs. Nothing here imports torch, Lightning or matplotlib.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from eurosat.monitoring.drift.assessment import Assessment as Assessment
    from eurosat.monitoring.drift.assessment import assess as assess
    from eurosat.monitoring.drift.traffic import Traffic as Traffic
    from eurosat.monitoring.drift.traffic import select as select

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "assessment": ["Assessment", "assess"],
        "traffic": ["Traffic", "select"],
    },
)
