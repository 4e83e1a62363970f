"""Times in file names: patterns such as ``logs/%Y-%m-%d/*`` or ``*-%s.csv``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from modyn.core.errors import CorruptDataError
from modyn.core.globs import glob_source

_DIGITS = {"Y": r"\d{4}", "m": r"\d{2}", "d": r"\d{2}", "H": r"\d{2}", "M": r"\d{2}", "S": r"\d{2}"}
_DIGITS |= {"j": r"\d{3}", "s": r"\d{1,11}"}
_NEEDS = {"m": "Y", "d": "m", "j": "Y", "M": "H", "S": "M"}
_KNOWN = "%Y %m %d %H %M %S %j (day of the year) and %s (Unix seconds)"


@dataclass(frozen=True)
class NameTimePattern:
    """Finds a time in the end of a relative path; UTC."""

    pattern: str
    regex: re.Pattern[str]

    def seconds(self, name: str) -> int:
        """The time in a file's relative path, Unix seconds.

        Raises:
            CorruptDataError: the path does not match, or what stands there is no date.
        """
        found = self.regex.fullmatch(name)
        if found is None:
            raise CorruptDataError(
                f"name {name!r} holds no time: it does not match name_time {self.pattern!r}; rename the file, or "
                "restrict `pattern` to files with a time in their names"
            )
        parts = {key: int(value) for key, value in found.groupdict().items()}
        if "s" in parts:
            return parts["s"]
        try:
            day = datetime(parts["Y"], parts.get("m", 1), parts.get("d", 1), tzinfo=UTC)
            if "j" in parts:
                day += timedelta(days=parts["j"] - 1)
                if day.year != parts["Y"]:
                    raise ValueError(f"the year has no day {parts['j']}")
            return int(
                day.replace(hour=parts.get("H", 0), minute=parts.get("M", 0), second=parts.get("S", 0)).timestamp()
            )
        except (ValueError, OverflowError) as error:
            raise CorruptDataError(f"name {name!r} holds no time by name_time {self.pattern!r}: {error}") from error


@lru_cache(maxsize=64)
def name_time_pattern(pattern: str) -> NameTimePattern:
    """A pattern of dates and globs, matched against the end of a path from the start of some folder or file name on.

    Raises:
        ValueError: it holds no time, or one that is not complete.
    """
    texts = re.split(r"%(.?)", pattern)  # text, field, text, …
    _check([field for field in texts[1::2] if field != "%"])
    merged = [texts[0]]
    for field, text in zip(texts[1::2], texts[2::2], strict=True):
        if field == "%":
            merged[-1] += "%" + text
        else:
            merged += [field, text]
    out = ["(?:.*/)?", glob_source(merged[0])]
    for index in range(1, len(merged), 2):
        before, field, after = merged[index - 1 : index + 2]
        # A wildcard must not take digits of the number beside it.
        left = r"(?<!\d)" if before.endswith("*") else ""
        right = r"(?!\d)" if after.startswith("*") else ""
        out += [f"{left}(?P<{field}>{_DIGITS[field]}){right}", glob_source(after)]
    try:
        return NameTimePattern(pattern, re.compile("".join(out), re.DOTALL | re.ASCII))
    except re.error as error:
        raise ValueError(f"name_time {pattern!r} cannot be used: {error}") from error


def _check(fields: list[str]) -> None:
    for field in fields:
        if field not in _DIGITS:
            raise ValueError(f"%{field} is no part of a time; expected {_KNOWN}; write %% for a percent sign")
        if fields.count(field) > 1:
            raise ValueError(f"%{field} stands twice; write * for the second")
    if not fields:
        raise ValueError(f"there is no time in it; expected {_KNOWN}")
    if "s" in fields and len(fields) > 1:
        raise ValueError("%s is a whole time by itself; leave out the others")
    if "j" in fields and "m" in fields:
        raise ValueError("%j already says the day; leave out %m and %d")
    if "H" in fields and not {"d", "j"} & set(fields):
        raise ValueError("%H needs the day; add %d or %j")
    for field in fields:
        if field in _NEEDS and _NEEDS[field] not in fields:
            raise ValueError(f"%{field} needs %{_NEEDS[field]}")
