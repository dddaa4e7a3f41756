# SPDX-License-Identifier: GPL-2.0-or-later
"""The straight line from a source to a kernel: key, store, slot, patches, config, make, store."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import interruption
from harness.errors import BuildError, HostError, UsageError
from harness.kernel import buildlog, distro, fragments, kernel, patches, prebuilt, slots, sync, toolchain
from harness.kernel.fragments import Option
from harness.kernel.kernel import Kernel
from harness.kernel.make import Kbuild, Progress, make, recover
from harness.kernel.patches import Patch
from harness.kernel.toolchain import USUAL, Toolchain, Wanted
from harness.source import Source
from harness.source.content import File
from harness.store import Store, make_room, write_atomically
from harness.targets import Target

log = logging.getLogger("harness.kernel")

BUILD_FORMAT = 1
"""Counts up whenever a change of this room makes other kernels from the same input."""

_STAMP = ".ksm-harness-config"


@dataclass(frozen=True)
class _Plan:
    """All that decides what the kernel will be."""

    source: Source
    target: Target
    options: Sequence[Option]
    fragment_names: tuple[str, ...]
    patches: Sequence[Patch]
    tools: Toolchain

    def _digest(self, *parts: object) -> str:
        return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).hexdigest()

    def _fixed(self) -> list[object]:
        """What kbuild is told, whatever the source."""
        required = [(o.name, o.is_optional(self.target)) for o in self.options]
        return [
            BUILD_FORMAT,
            fragments.allconfig(self.options),
            required,
            self.tools.identity(),
            self.target.kernel_arch,
            self.target.make_target,
            self.target.image,
        ]

    @property
    def key(self) -> str:
        """The kernel's name in the store."""
        return self._digest(self.source.identity, [p.sha256 for p in self.patches], self._fixed())[:32]

    @property
    def names(self) -> dict[str, Any]:
        """What the input is called, which the key does not say: fields of Kernel."""
        return {
            "target": self.target.name,
            "source": str(self.source.spec),
            "revision": self.source.revision,
            "patches": tuple((p.name, p.sha256) for p in self.patches),
            "fragments": self.fragment_names,
        }

    @property
    def objects(self) -> str:
        """The name of the object directory: one for each configuration and compiler, whatever the target is called."""
        return f"o-{self.target.machine_arch}-{self._digest(self._fixed())[:8]}"

    def config_inputs(self, patched: Mapping[str, File | None]) -> str:
        """A digest of what Kconfig reads: while it stays, .config need not be made again."""

        def is_input(path: str) -> bool:
            return (
                path.rpartition("/")[2].startswith("Kconfig")
                or path.startswith("scripts/")
                or path == "Makefile"
                or (path.startswith("arch/") and path.count("/") == 2 and path.endswith("/Makefile"))
            )

        base: object = self.source.identity
        if self.source.manifest is not None:
            base = sorted(item for item in self.source.manifest.items() if is_input(item[0]))
        changed = sorted((path, file.value if file else "") for path, file in patched.items() if is_input(path))
        return self._digest(base, changed, self._fixed())


def _tell(progress: Progress | None, words: str) -> None:
    log.info("%s", words)
    if progress:
        progress(words, None)


def _configure(plan: _Plan, kbuild: Kbuild, patched: Mapping[str, File | None]) -> list[str]:
    """Make .config from allnoconfig and the fragments, unless it is there; the warnings about what did not stick."""
    stamp, dotconfig = kbuild.objects / _STAMP, kbuild.objects / ".config"
    inputs = plan.config_inputs(patched)
    try:
        data = json.loads(stamp.read_text(encoding="utf-8"))
        if data["inputs"] == inputs and data["sha256"] == hashlib.sha256(dotconfig.read_bytes()).hexdigest():
            return [str(warning) for warning in data["warnings"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    wanted, fresh = kbuild.objects / ".ksm-harness.allconfig", kbuild.objects / ".ksm-harness.config"
    write_atomically(wanted, fragments.allconfig(plan.options))
    make(kbuild, ["allnoconfig"], more=[f"KCONFIG_ALLCONFIG={wanted}", f"KCONFIG_CONFIG={fresh}"])
    made = fresh.read_text(encoding="utf-8", errors="surrogateescape")
    warnings = fragments.validate(plan.options, made, plan.target, kbuild.slot.src)
    raw = fresh.read_bytes()
    if not dotconfig.is_file() or dotconfig.read_bytes() != raw:
        fresh.replace(dotconfig)
    digest = hashlib.sha256(raw).hexdigest()
    write_atomically(stamp, json.dumps({"inputs": inputs, "sha256": digest, "warnings": warnings}))
    return warnings


def _keep(plan: _Plan, kbuild: Kbuild, place: Path, seconds: float, warnings: list[str], store: Store) -> Kernel:
    """Put the finished kernel into the store."""
    vmlinux, image = kbuild.objects / "vmlinux", kbuild.objects / plan.target.image
    for path in (vmlinux, image):
        if not path.is_file():
            raise BuildError(
                f"{plan.target.name}: make {plan.target.make_target} succeeded but left no {path.name}; log: {kbuild.log}"
            )
    with store.scratch() as old, store.making(place) as fresh:
        if place.exists():
            place.rename(old / place.name)
        shutil.copyfile(vmlinux, fresh / "vmlinux")
        if image == vmlinux:
            # QEMU maps the file and reads only what is loaded: without the debug info it would boot no sooner.
            (fresh / "image").hardlink_to(fresh / "vmlinux")
        else:
            shutil.copyfile(image, fresh / "image")
        for name, kept in ((".config", "config"), ("System.map", "System.map")):
            shutil.copyfile(kbuild.objects / name, fresh / kept)
        shutil.copyfile(kbuild.log, fresh / "build.log")
        release = (kbuild.objects / "include/config/kernel.release").read_text(encoding="utf-8", errors="replace").strip()
        made = Kernel(
            key=plan.key,
            directory=place,
            image=place / "image",
            vmlinux=place / "vmlinux",
            config=place / "config",
            system_map=place / "System.map",
            release=release,
            compiler=plan.tools.compiler,
            linker=plan.tools.linker,
            identity=plan.source.identity,
            **plan.names,
            warnings=tuple(warnings),
            seconds=round(seconds, 3),
            cached=False,
        )
        made.save(fresh)
    return made


def _expected(store: Store, target: Target, fresh: bool) -> int:
    """Steps of the last build from nothing for this architecture, for the progress; 0 when unknown or not from nothing."""
    try:
        return int((store.root / "facts" / f"steps-{target.machine_arch}").read_text()) if fresh else 0
    except (OSError, ValueError):
        return 0


def _compile(plan: _Plan, store: Store, place: Path, jobs: int, progress: Progress | None) -> Kernel:
    """Build in a slot and store the result."""
    began = time.monotonic()
    with store.scratch() as scratch:
        patched = patches.apply(plan.patches, plan.source.files, scratch)
    store.pin(store.root / "ccache")
    _tell(progress, f"{plan.target.name}: bringing a private copy of {plan.source.spec} up to date")

    def fill(slot: slots.Slot) -> None:
        sync.bring(plan.source, slot, patched)

    wanted = sync.content_name(plan.source, patched)
    with slots.acquire(store, plan.source.family, plan.objects, wanted, fill) as slot:
        store.touch(slot.directory)
        make_room(store)
        objects = slot.directory / plan.objects
        from_nothing = not (objects / "vmlinux").exists()
        store.touch(objects)
        build_log = objects / "build.log"
        recover(objects, build_log)
        build_log.write_bytes(f"# {plan.source.label} for {plan.target.name}\n".encode())
        kbuild = Kbuild(slot, objects, plan.target, plan.tools, store, jobs, build_log)
        warnings = _configure(plan, kbuild, patched)
        _tell(progress, f"{plan.target.name}: building {plan.source.label}")
        make(kbuild, [plan.target.make_target], expected=_expected(store, plan.target, from_nothing), progress=progress)
        if from_nothing:
            write_atomically(
                store.root / "facts" / f"steps-{plan.target.machine_arch}", str(buildlog.steps(build_log.read_bytes()))
            )
        return _keep(plan, kbuild, place, time.monotonic() - began, warnings, store)


@interruption.interruptible()
def build(
    source: Source,
    target: Target,
    store: Store,
    *,
    patches: Sequence[Path] = (),
    fragments: Sequence[Path] = (),
    jobs: int = 0,
    progress: Progress | None = None,
    force: bool = False,
    tools: Wanted = USUAL,
) -> Kernel:
    """The kernel of ``source`` with ``patches`` for ``target``; built unless the store has it (or ``force``).

    ``fragments`` are config fragments on top of the target's own, ``jobs`` is make's -j (0: one per processor),
    ``tools`` what is asked for instead of the target's compiler.
    UsageError for bad patches or contradicting fragments; BuildError when a patch does not apply, an option did not stick
    or the kernel did not compile (then MakeError, whose ``log`` is the whole output); HostError when tools are missing;
    Interrupted after interrupt().
    """
    if source.spec.ready:
        if patches or tools != USUAL:
            source.spec.need_source("patches and compilers need")
        made = prebuilt.wrap(source, target, store) if source.kind == "image" else distro.wrap(source, target, store, progress)
        return _ready(made, source, target, fragments)
    plan = _plan(source, target, patches, fragments, tools)
    place = kernel.directory_of(store, plan.key)
    store.pin(place)
    if not force and (found := _found(plan, store, place)):
        return found
    jobs = jobs or os.cpu_count() or 1
    with store.try_lock(f"kernel-{plan.key}") as free:
        if free is not None:
            return _locked(plan, store, place, jobs, progress, force)
    _tell(progress, f"{target.name}: another run builds this very kernel; waiting for it")
    with interruption.lock(store, f"kernel-{plan.key}"):
        return _locked(plan, store, place, jobs, progress, False)


def _ready(made: Kernel, source: Source, target: Target, paths: Sequence[Path]) -> Kernel:
    """A ready image has the options that it has: UsageError where its config is known and is not as the fragments want it."""
    options = fragments.options_for(target, paths)
    if options and made.config is None:
        return dataclasses.replace(
            made, warnings=(*made.warnings, "no config lies beside the image: whether it is as asked is not known")
        )
    actual = fragments.parse_dotconfig(made.config.read_text(encoding="utf-8", errors="replace")) if made.config else {}
    missed = [
        f"{o} ({o.fragment}:{o.line})"
        for o in options
        if o.optional is None and not o.if_known and actual.get(o.name, "n") not in _enough(o.value)
    ]
    if missed:
        raise UsageError(f"{source.spec} is a ready image, and its config is not {', '.join(missed)}; that needs a source")
    return made


def _enough(value: str) -> tuple[str, ...]:
    """A module is as good as what is built in: init loads what it is given."""
    return (value, "m") if value == "y" else (value,)


def _found(plan: _Plan, store: Store, place: Path) -> Kernel | None:
    """The kernel as the store has it, with the names that this run knows its input by: the key is of contents alone."""
    found = kernel.load(place)
    if found:
        store.touch(place)
        found = dataclasses.replace(found, **plan.names)
    return found


def _locked(plan: _Plan, store: Store, place: Path, jobs: int, progress: Progress | None, force: bool) -> Kernel:
    """Build with the key's lock held, unless another run has just done it."""
    if not force and (found := _found(plan, store, place)):
        return found
    try:
        made = _compile(plan, store, place, jobs, progress)
    except OSError as e:
        where = f"{plan.target.name}: cannot build in {store.root}"
        raise HostError(f"{where}: {e.strerror} ({e.filename}); is the disk full?") from e
    store.touch(place)
    return made


def _plan(source: Source, target: Target, patch_files: Sequence[Path], extra: Sequence[Path], tools: Wanted) -> _Plan:
    paths = [*(fragments.find(name) for name in target.fragments), *extra]
    options = fragments.options_for(target, paths)
    return _Plan(
        source, target, options, tuple(path.stem for path in paths), patches.load(patch_files), toolchain.find(target, tools)
    )
