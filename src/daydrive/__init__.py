"""daydrive: world models of driving, trained and evaluated on recorded drives.

>>> import daydrive
>>> store = daydrive.Store.open("data/processed/road")
>>> [(drive.start, drive.frames) for drive in store.split("test")]
[(96, 24), (120, 24), (144, 24), (168, 24)]

Names are loaded on first use, so that `import daydrive` is fast.
"""

from typing import TYPE_CHECKING

from daydrive.version import __version__

if TYPE_CHECKING:
    from daydrive.api import (
        Clips,
        Store,
        UserError,
        build_world_model,
        evaluate,
        from_pretrained,
        load,
        push_to_hub,
        rollout,
        save_pretrained,
    )

__all__ = [
    "Clips",
    "Store",
    "UserError",
    "__version__",
    "build_world_model",
    "evaluate",
    "from_pretrained",
    "load",
    "push_to_hub",
    "rollout",
    "save_pretrained",
]

if not TYPE_CHECKING:

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module 'daydrive' has no attribute '{name}'")
        from daydrive import api

        globals()[name] = getattr(api, name)
        return globals()[name]

    def __dir__():
        return sorted({*globals(), *__all__})
