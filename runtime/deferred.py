"""numpy, loaded when it is first used: `from dlc.runtime.deferred import np`.

Loading it takes as long as checking a spec does. What a spec may name (layers, initializers, sources, transforms, metrics)
works with arrays, but not while it is only checked; the modules that define it take numpy from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
else:

    class _Numpy:
        def __getattr__(self, name: str) -> Any:
            import numpy  # here and not above, as the module says

            value = getattr(numpy, name)
            setattr(self, name, value)  # from now on found without this detour
            return value

    np = _Numpy()

__all__ = ["np"]
