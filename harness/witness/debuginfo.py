# SPDX-License-Identifier: GPL-2.0-or-later
"""From a vmlinux's debug information to a Layout: all that drgn is needed for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from harness.errors import CannotJudge, HostError
from harness.witness.elf import Vmlinux
from harness.witness.layout import OPTIONAL_STRUCTURES, STRUCTURES, SYMBOLS, VARIABLES, Field, Layout, Names, lacking

if TYPE_CHECKING:
    import drgn

MISSING = "--witness needs drgn, which is not installed; mend it with: pip install 'ksm-harness[witness]' (or pip install drgn)"
_MASK = (1 << 64) - 1


def need_drgn() -> Any:
    """The module drgn.  HostError that says how to get it."""
    try:
        import drgn
    except ImportError as e:
        raise HostError(MISSING) from e
    if not hasattr(getattr(drgn, "ExtraModule", None), "address_ranges"):
        raise HostError(f"--witness needs drgn 0.0.32 or later, not {drgn.__version__}; mend it with: pip install -U drgn")
    return drgn


def load(vmlinux: Vmlinux) -> Layout:
    """The layout of a kernel's structures.  CannotJudge if its debug information does not tell."""
    drgn = need_drgn()
    program, bias = open_program(vmlinux)
    try:
        layout = _Reader(drgn, program, bias).layout(vmlinux.byteorder)
    except LookupError as e:
        raise CannotJudge(f"--witness: {vmlinux.path} has no debug information on what is looked at: {e}") from e
    if missing := lacking(layout):
        raise CannotJudge(f"--witness: {vmlinux.path} has no debug information on what is looked at: no {', no '.join(missing)}")
    return layout


def open_program(vmlinux: Vmlinux) -> tuple[drgn.Program, int]:
    """A program without memory that knows the vmlinux's types and symbols, and what its addresses are too high by."""
    drgn = need_drgn()
    flags = drgn.PlatformFlags.IS_64_BIT
    if vmlinux.byteorder == "little":
        flags |= drgn.PlatformFlags.IS_LITTLE_ENDIAN
    program = drgn.Program(drgn.Platform(drgn.Architecture[vmlinux.machine], flags))
    module = program.extra_module("vmlinux", create=True)
    # The range's beginning is taken for the place of the file's first segment.
    module.address_ranges = [(vmlinux.start, vmlinux.end)]
    try:
        module.try_file(vmlinux.path, force=True)
    except (OSError, ValueError, drgn.FaultError) as e:
        raise CannotJudge(f"--witness: drgn cannot read {vmlinux.path}: {e}") from e
    if module.debug_file_status != drgn.ModuleFileStatus.HAVE:
        raise CannotJudge(f"--witness: {vmlinux.path} has no debug information; build the kernel with CONFIG_DEBUG_INFO")
    return program, module.debug_file_bias


class _Reader:
    def __init__(self, drgn: Any, program: drgn.Program, bias: int) -> None:
        self._drgn = drgn
        self._program = program
        self._bias = bias

    def layout(self, byteorder: str) -> Layout:
        structures: dict[str, dict[str, Field]] = {}
        sizes: dict[str, int] = {}
        for name, (types, members, optional) in STRUCTURES.items():
            try:
                kind = self._type(types)
                structures[name] = {m: f for m, names in members.items() if (f := self._member(kind, names, m in optional))}
                sizes[name] = kind.size or 0
            except LookupError:
                if name not in OPTIONAL_STRUCTURES:
                    raise
        variables = {name: place for name, (v, member) in VARIABLES.items() if (place := self._variable(v, member))}
        symbols = {name: address for name in SYMBOLS if (address := self._symbol(name))}
        return Layout(byteorder, structures, sizes, variables, symbols)

    def _type(self, names: Names) -> drgn.Type:
        for name in names:
            for file in ("mm/ksm.c", None):  # struct mm_slot was khugepaged's too
                try:
                    return self._program.type(name, file)
                except LookupError:
                    continue
        raise LookupError(f"there is no {names[0]}")

    def _member(self, kind: drgn.Type, names: Names, optional: bool) -> Field | None:
        for name in names:
            try:
                return Field(self._drgn.offsetof(kind, name), *self._number(self._of(kind, name)))
            except (LookupError, TypeError):
                continue
        if optional:
            return None
        raise LookupError(f"{kind.type_name()} has no {names[0]}")

    def _of(self, kind: drgn.Type, path: str) -> drgn.Type:
        """The type of a member of a member."""
        for word in re.findall(r"[a-z_]\w*|\[", path):
            while kind.kind == self._drgn.TypeKind.TYPEDEF:
                kind = kind.type
            kind = kind.type if word == "[" else kind.member(word).type
        return kind

    def _number(self, kind: drgn.Type) -> tuple[int, bool]:
        kinds = self._drgn.TypeKind
        while kind.kind in (kinds.TYPEDEF, kinds.ARRAY):
            kind = kind.type
        size = self._drgn.sizeof(kind)
        if kind.kind == kinds.POINTER or size not in (1, 2, 4, 8):
            return (8, False)
        if kind.kind == kinds.STRUCT:  # atomic_t and the like
            return self._number(kind.members[0].type)
        return (size, bool(getattr(kind, "is_signed", False)) if kind.kind == kinds.INT else False)

    def _variable(self, name: str, member: str) -> tuple[int, Field] | None:
        try:
            thing = self._program.variable(name)
        except (LookupError, self._drgn.FaultError):  # clang may keep a variable in another form, which only memory gives back
            return None
        if thing.address_ is None:
            return None
        kind, offset = thing.type_, 0
        if member:
            offset = self._drgn.offsetof(kind, member)
            kind = self._of(kind, member)
        return (thing.address_ - self._bias) & _MASK, Field(offset, *self._number(kind))

    def _symbol(self, name: str) -> int:
        try:
            return int(self._program.symbol(name).address - self._bias) & _MASK
        except LookupError:
            return 0
