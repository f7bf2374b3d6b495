"""The official nuScenes splits.

The lists are those of nuscenes-devkit 1.2.0 (python-sdk/nuscenes/utils/splits.py, Apache License 2.0), as numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daydrive.errors import UserError

_TRAIN = """
1-2 4-11 19-34 41-76 120-135 138-139 149-152 154-155 157-168 170-185 187-188 190-196 199-200 202-204 206-214 218-220 222
224-264 283-306 315-318 321 323-324 328 347-386 388-403 405-408 410-459 461-465 467-469 471-472 474-480 499-502 504-515
517-518 525-539 541-546 566 568 570-578 580 582-600 639-679 681 683-689 695-698 700-701 703-719 726-728 730-731 733-741
744 746-747 749-752 757-765 767-769 786-787 789-792 803-806 808-813 815-817 819-822 847-856 858 860-866 868-873 875-878
880 882-903 945 947 949 952-953 955-961 975-984 988-992 994-1025 1044-1058 1074-1102 1104-1110
"""
_VAL = """
3 12-18 35-36 38-39 92-110 221 268-278 329-332 344-346 519-524 552-565 625-627 629-630 632-638 770-771 775 777-778
780-784 794-800 802 904-917 919-931 962-963 966-969 971-972 1059-1073
"""
_TEST = """
77-91 111-119 140 142-148 265-266 279-282 307-314 333-343 481-498 547-551 601-604 606-624 827-831 833-842 844-846
932-933 935-943 1026-1043
"""
_MINI_TRAIN, _MINI_VAL = "61 553 655 757 796 1077 1094 1100", "103 916"

VAL_SHARE = 0.1
"""Share of the official training scenes used for val."""


def _scenes(numbers: str) -> frozenset[str]:
    ranges = [part.split("-") for part in numbers.split()]
    return frozenset(f"scene-{k:04d}" for ends in ranges for k in range(int(ends[0]), int(ends[-1]) + 1))


OFFICIAL: dict[str, dict[str, frozenset[str]]] = {
    "v1.0-trainval": {"train": _scenes(_TRAIN), "val": _scenes(_VAL)},
    "v1.0-mini": {"train": _scenes(_MINI_TRAIN), "val": _scenes(_MINI_VAL)},
    "v1.0-test": {"test": _scenes(_TEST)},
}
"""The official split of each version's scenes."""


def is_official(version: str, names: Sequence[str]) -> bool:
    """Whether all scenes are in the official lists of the version."""
    return set(names) <= frozenset().union(*OFFICIAL[version].values())


def official(version: str, names: Sequence[str], logs: Sequence[str], seed: int) -> list[str]:
    """The split of each scene.

    The official val and test scenes are test; at least `VAL_SHARE` of the official train scenes, in whole logs drawn by
    `seed`, are val. If only one log is left for training, scenes are drawn instead of logs, and a single scene stays in
    train. Raises UserError for a scene that is in no list.
    """
    lists = OFFICIAL[version]
    for name in names:
        if not is_official(version, [name]):
            raise UserError(f"--split official: the scene {name!r} is not in the lists of {version}; use by-drive")
    splits = ["train" if name in lists.get("train", ()) else "test" for name in names]
    training = [k for k, split in enumerate(splits) if split == "train"]
    groups = logs if len({logs[k] for k in training}) > 1 else names
    drawn = list(dict.fromkeys(groups[k] for k in training))
    order = np.random.default_rng([seed, len(drawn)]).permutation(len(drawn))
    wanted = VAL_SHARE * len(training)
    for group in [drawn[k] for k in order.tolist()[:-1]]:
        if splits.count("val") >= wanted:
            break
        for k in training:
            if groups[k] == group:
                splits[k] = "val"
    return splits
