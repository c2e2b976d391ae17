"""Every option of the configuration: its name, default, limits, and one line on why to change it.

The descriptions are the comments of `config.example.yaml` and of `check --schema`: there is no second copy. A value
is checked alone by its kind in `settings_values`; what clashes with another value is found in `settings_checks`.
Durations are held as seconds, sizes as bytes, `mode` as an int. Nothing here touches a disk.
"""

from __future__ import annotations

import os.path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from chamelaion_watch import units
from chamelaion_watch.settings_values import (
    BaseUrl,
    Duration,
    Extensions,
    Flag,
    FolderPath,
    Glob,
    Language,
    Line,
    LocalPath,
    Mode,
    Name,
    OutputTemplate,
    Size,
    StatePath,
    Text,
    Whole,
    checked_folder,
)

KeepOrMove = Literal["keep", "move"]
Verdict = Literal["stop", "warn", "off"]


class Section(BaseModel):
    """A mapping of the configuration; one whose lines are all commented out reads as null and means the defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _null_means_defaults(cls, data: Any) -> Any:
        return {} if data is None else data


class Growth(Section):
    """An interval that starts at `first` and grows to `max`, in seconds."""

    first: Duration
    max: Duration

    @model_validator(mode="after")
    def _first_is_not_longer(self) -> Growth:
        if self.first > self.max:
            first, longest = units.duration_text(self.first), units.duration_text(self.max)
            raise ValueError(f"first ({first}) is longer than max ({longest})")
        return self


class Poll(Growth):
    first: Duration = 10.0
    max: Duration = 30.0


class RateLimitedPause(Growth):
    first: Duration = 30.0
    max: Duration = 300.0


class QuotaPause(Growth):
    first: Duration = 900.0
    max: Duration = 3600.0


class UnauthorizedPause(Growth):
    first: Duration = 60.0
    max: Duration = 300.0


class UnreachablePause(Growth):
    first: Duration = 5.0
    max: Duration = 60.0


class PauseSettings(Section):
    rate_limited: RateLimitedPause = Field(
        default=RateLimitedPause(), description="429, too fast: longer if others use the same account"
    )
    quota: QuotaPause = Field(
        default=QuotaPause(), description="412, tokens used up: shorter if you refill during the day"
    )
    unauthorized: UnauthorizedPause = Field(
        default=UnauthorizedPause(),
        description="401 or 403: the key is read again at each probe; shorter to notice a new one sooner",
    )
    unreachable: UnreachablePause = Field(
        default=UnreachablePause(), description="no answer from the service: longer on a line that is often down"
    )


class ApiSettings(Section):
    base_url: BaseUrl = Field(
        default="https://api.chamelaion.com/api",
        description="another address for staging or the sandbox; CHAMELAION_BASE_URL wins over this line",
    )
    key_file: LocalPath | None = Field(
        default=None,
        description="a file with the API key (chmod 600), never the key itself; the last place that is looked at",
    )
    ca_file: LocalPath | None = Field(
        default=None, description="a PEM file, for a proxy that has its own certificate authority"
    )
    requests_per_minute: Whole = Field(
        default=60,
        ge=1,
        le=100_000,
        description="lower if others share the account, higher if your plan allows more (1 to 100000)",
    )
    max_in_flight: Whole = Field(
        default=8,
        ge=1,
        le=10_000,
        description="jobs rendering at once: your plan's limit if you know it; it is lowered by itself",
    )
    uploads: Whole = Field(
        default=2, ge=1, le=32, description="uploads at once: 1 on a slow line, more on a fast one (1 to 32)"
    )
    downloads: Whole = Field(default=2, ge=1, le=32, description="downloads at once, likewise (1 to 32)")
    disable_active_speaker_detection: Flag = Field(
        default=False, description="true to have the service skip it; passed on unchanged"
    )
    model: Line | None = Field(default=None, description="a model's name such as lipsync-2; sent only when set")
    poll: Poll = Field(default=Poll(), description="how often a rendering job is asked for: longer for long videos")
    lookup_grace: Duration = Field(
        default=120.0,
        description="how long a 404 is not believed after a doubtful submission: longer behind a slow proxy",
    )
    pause: PauseSettings = Field(
        default=PauseSettings(),
        description="waits where the server names no time, each plus up to as much again at random",
    )


class Preflight(Section):
    unreadable: Verdict = "stop"
    no_picture: Verdict = "stop"
    no_sound: Verdict = "stop"
    duration_mismatch: Verdict = "warn"


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]  # it depends on the path


class FolderSettings(Section):
    path: FolderPath = Field(
        description="the drop folder, an absolute path; if it is absent at the start it is waited for"
    )
    name: Name = Field(
        default="",
        description="what logs and commands call it; by default the folder's own name",
        json_schema_extra=_without_default,
    )
    output: OutputTemplate = Field(
        default="{dir}/{name}.lipsync.mp4",
        description="where results go, of {dir} {stem} {lang} {name} {date}, relative to path: ../out/{dir}/{name}.mp4",
    )
    settle: Duration | None = Field(
        default=None, description="how long a file must be unchanged; null = 10s local, 30s on a network share"
    )
    rescan: Duration | None = Field(
        default=None, description="how often the whole folder is listed; null = 60s local, 10s on a network share"
    )
    recursive: Flag = Field(default=True, description="false to watch the folder itself but not its sub-folders")
    video: Extensions = Field(
        default=(".mp4",), min_length=1, description="extensions taken for pictures; the service takes MP4"
    )
    audio: Extensions = Field(
        default=(".wav", ".mp3"), min_length=1, description="extensions taken for sound; the service takes WAV and MP3"
    )
    min_bytes: Size = Field(default=1024, description="smaller files are not looked at")
    languages: tuple[Language, ...] | None = Field(
        default=None,
        description="[de, pt-BR] to take name_de.wav besides name.de.wav; null = a built-in list, after a dot only",
    )
    ignore: tuple[Glob, ...] = Field(
        default=(), description='names never looked at, besides the built-in list: ["*_proxy.*"]'
    )
    backlog: Literal["hold", "take"] = Field(
        default="hold",
        description="take to start at once on more than 20 pairs that lie in a folder seen for the first time",
    )
    preflight: Preflight = Field(
        default=Preflight(), description="what a problem found before a paid upload does: stop, warn or off"
    )
    on_success: KeepOrMove = Field(
        default="keep", description="move the sources away after success; not in this version yet"
    )
    on_failure: KeepOrMove = Field(
        default="keep", description="move the sources away after a failure; not in this version yet"
    )
    receipts: Flag = Field(default=False, description="true to write NAME.lipsync.json beside each output")
    status: Flag = Field(default=True, description="a status page on the share; not in this version yet")
    mode: Mode = Field(
        default=0o664,
        description='permissions of the files that we create, in quotes; "0644" where groups must not write',
    )
    priority: Whole = Field(
        default=0, ge=-1000, le=1000, description="folders with a higher number go first (-1000 to 1000)"
    )

    @model_validator(mode="before")
    @classmethod
    def _name_after_folder(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("name") is not None:
            return data
        try:
            name = os.path.basename(checked_folder(str(data.get("path")))).strip()  # noqa: PTH119
        except ValueError:
            name = ""  # the path's own problem is enough
        return {**data, "name": name or "folder"}

    @field_validator("on_success", "on_failure")
    @classmethod
    def _moves_come_later(cls, value: str) -> str:
        if value != "keep":
            raise ValueError("moving sources is not available in this version yet: write keep")
        return value


class ServerSettings(Section):
    listen: Text | None = Field(default=None, description="127.0.0.1:8642 for a status page; not in this version yet")

    @field_validator("listen")
    @classmethod
    def _server_comes_later(cls, value: str | None) -> None:
        if value is not None:
            raise ValueError("the status server is not available in this version yet: write null")


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug to see why something happens, warning to hear of trouble only"
    )
    format: Literal["auto", "text", "json"] = Field(
        default="auto",
        description="auto = colours on a terminal, journal priorities under systemd; text or json for a collector",
    )


class Settings(Section):
    """The whole configuration."""

    api: ApiSettings = Field(default=ApiSettings(), description="the Chamelaion API")
    max_jobs_per_day: Annotated[Whole, Field(ge=1)] | None = Field(
        default=None, description="a brake on spending: no more paid jobs than this in a day"
    )
    folders: tuple[FolderSettings, ...] = Field(min_length=1, description="the folders to watch, one entry each")
    state: StatePath | None = Field(
        default=None, description="a local folder for the ledger, never on the share; null = the system's usual place"
    )
    spool_max: Size = Field(
        default=50 * 2**30,
        description="room for results while their share is away or full; 0B = they wait at the service",
    )
    server: ServerSettings = Field(default=ServerSettings(), description="the status server; not in this version yet")
    log: LogSettings = Field(default=LogSettings(), description="what is logged, to standard error")


def section_at(path: tuple[str | int, ...]) -> type[Section] | None:
    """Return the model of the mapping at this path, None if no mapping belongs there."""
    model: type[Section] = Settings
    for name in (part for part in path if isinstance(part, str)):
        field = model.model_fields.get(name)
        section = FolderSettings if path[0] == name == "folders" else field and field.annotation
        if not (isinstance(section, type) and issubclass(section, Section)):
            return None
        model = section
    return model
