# SPDX-License-Identifier: GPL-2.0-or-later
"""The first error of a build, from logs as kbuild writes them."""

from __future__ import annotations

import pytest

from harness.kernel import buildlog

SRC = "/store/work/x-0/src"
HEAD = "make: Entering directory '/store/work/x-0/src'\n  CALL    scripts/checksyscalls.sh\n  CC      mm/ksm.o\n"
TAIL = (
    "make[3]: *** [/store/work/x-0/src/scripts/Makefile.build:250: mm/ksm.o] Error 1\n"
    "make: *** [Makefile:219: __sub-make] Error 2\n"
)


@pytest.mark.parametrize(
    ("middle", "wanted"),
    [
        (
            f"{SRC}/mm/ksm.c: In function 'f':\n"
            f"{SRC}/mm/ksm.c:12:3: error: expected ';' before '}}' token\n{SRC}/mm/x.c:1:1: error: second\n",
            "mm/ksm.c:12:3: error: expected ';' before '}' token",
        ),
        ("../src/mm/ksm.c:12:3: error: unknown type name 'foo'\n", "mm/ksm.c:12:3: error: unknown type name 'foo'"),
        (
            f"{SRC}/mm/ksm.c:9:1: warning: unused\n{SRC}/mm/ksm.c:3:10: fatal error: nope.h: No such file or directory\n",
            "mm/ksm.c:3:10: fatal error: nope.h: No such file or directory",
        ),
        (
            f"{SRC}/arch/x86/entry/entry.S:7: Error: no such instruction: `foo'\n",
            "arch/x86/entry/entry.S:7: Error: no such instruction: `foo'",
        ),
        (
            "/usr/bin/x86_64-linux-gnu-ld: mm/ksm.o: in function `ksm_init':\n"
            f"{SRC}/mm/ksm.c:30: undefined reference to `nowhere'\n",
            "mm/ksm.c:30: undefined reference to `nowhere'",
        ),
        (
            "ld: mm/ksm.o: in function `f':\nksm.c:(.text+0x1): undefined reference to `nowhere'\n",
            "ksm.c:(.text+0x1): undefined reference to `nowhere'",
        ),
        (
            "ld: warning: orphan section\nld: cannot find -lfoo: No such file or directory\n",
            "ld: cannot find -lfoo: No such file or directory",
        ),
        (
            "ld: warning: missing .note.GNU-stack section\nld: NOTE: This behaviour is deprecated\nld: cannot find -lfoo\n",
            "ld: cannot find -lfoo",
        ),
        ("/bin/sh: 1: flex: not found\n", "/bin/sh: 1: flex: not found (install it)"),
        ("/bin/sh: line 1: bison: command not found\n", "/bin/sh: line 1: bison: command not found (install it)"),
        (f"{SRC}/Makefile:716: *** Cannot find a vmlinux.  Stop.\n", "Makefile:716: *** Cannot find a vmlinux.  Stop."),
        (
            "***\n*** The source tree is not clean, please run 'make mrproper'\n",
            "*** The source tree is not clean, please run 'make mrproper'",
        ),
        ('ERROR: modpost: "foo" [x.ko] undefined!\n', 'ERROR: modpost: "foo" [x.ko] undefined!'),
        ("gcc: fatal error: Killed signal terminated program cc1\n", "gcc: fatal error: Killed signal terminated program cc1"),
        (
            "make[2]: *** No rule to make target 'mm/nope.o', needed by 'mm/built-in.a'.  Stop.\n",
            "make[2]: *** No rule to make target 'mm/nope.o', needed by 'mm/built-in.a'.  Stop.",
        ),
        (
            "main.c:5:10: fatal error: gelf.h: No such file or directory\n",
            "main.c:5:10: fatal error: gelf.h: No such file or directory (sudo apt-get install libelf-dev)",
        ),
        ("", "make[3]: *** [scripts/Makefile.build:250: mm/ksm.o] Error 1"),
    ],
)
def test_first_error(middle: str, wanted: str) -> None:
    assert buildlog.first_error(HEAD + middle + TAIL, SRC) == wanted


def test_nothing_at_all() -> None:
    assert buildlog.first_error("", SRC) == "make printed nothing"
    assert buildlog.first_error("bus error, bye\n\n", SRC) == "bus error, bye"


def test_steps() -> None:
    assert buildlog.steps(b"  CC      a.o\n  CC [M]  b.o\n  HOSTCC  c\n  LD      vmlinux\n  UPD     x\nCC x\n  CHK     y\n") == 4
