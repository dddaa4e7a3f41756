# SPDX-License-Identifier: GPL-2.0-or-later
"""Config fragments: what they may say, whom they contradict, what stuck."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import resources
from harness.errors import BuildError, UsageError
from harness.kernel import fragments
from harness.kernel.fragments import Option
from harness.targets import table

X86, ARM = table()["x86_64"], table()["aarch64"]


def parsed(text: str) -> list[tuple[str, str]]:
    return [(o.name, o.value) for o in fragments.parse(text, "f")]


def test_parse() -> None:
    text = (
        "# a comment\n\nCONFIG_A=y\nCONFIG_B=n  # optional\n# CONFIG_C is not set\n"
        'CONFIG_D="x # y=\\"z\\""\nCONFIG_E=0x10 # why\n'
    )
    assert parsed(text) == [("A", "y"), ("B", "n"), ("C", "n"), ("D", '"x # y=\\"z\\""'), ("E", "0x10")]


def test_optional() -> None:
    a, b, c, d = fragments.parse(
        "CONFIG_A=y\nCONFIG_B=y # optional\nCONFIG_C=y # optional: aarch64 ppc64\nCONFIG_D=y # optionally nice\n", "f"
    )
    assert [o.is_optional(X86) for o in (a, b, c, d)] == [False, True, False, False]
    assert [o.is_optional(ARM) for o in (a, b, c, d)] == [False, True, True, False]


def test_old_kernels_need_no_name_that_their_tree_lacks() -> None:
    """Nor do newer ones: --target old takes every kernel from 2.6.32 on, and each has some of these options only."""
    more = fragments.read(fragments.find("old"))
    assert more and all(o.if_known or o.is_optional(table()["x86_64-old"]) for o in more)
    assert fragments.options_for(table()["x86_64-old"], map(fragments.find, table()["x86_64-old"].fragments))


@pytest.mark.parametrize("line", ["CONFIG_A", "CONFIG_A=", "A=y", "CONFIG_A=y z", 'CONFIG_A="x', "config_a=y", "CONFIG_A = y"])
def test_nonsense_is_named(line: str) -> None:
    with pytest.raises(UsageError, match=r"^frag:2: "):
        fragments.parse(f"CONFIG_OK=y\n{line}\n", "frag")


def test_conflict_names_both() -> None:
    one, two = fragments.parse("CONFIG_A=y\n", "one"), fragments.parse("\n# CONFIG_A is not set\n", "two")
    with pytest.raises(UsageError, match=r"CONFIG_A: one:1 wants y, but two:2 wants n"):
        fragments.merge([one, two])


def test_merge_keeps_order_and_the_stricter_line() -> None:
    one = fragments.parse("CONFIG_B=y # optional\nCONFIG_A=y\n", "one")
    two = fragments.parse("CONFIG_B=y\nCONFIG_C=n\n", "two")
    merged = fragments.merge([one, two])
    assert fragments.allconfig(merged) == "CONFIG_B=y\nCONFIG_A=y\n# CONFIG_C is not set\n"
    assert merged[0] == Option("B", "y", "two", 1)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "mm").mkdir()
    (tmp_path / "mm/Kconfig").write_text("config KSM\n\tbool\nmenuconfig SWAP\n\tbool\n")
    (tmp_path / "mm/Kconfig.debug").write_text("if X\n  config DEBUG_VM\n\tbool\n")
    return tmp_path


def test_validate(tree: Path) -> None:
    options = fragments.parse("CONFIG_KSM=y\nCONFIG_SWAP=n\nCONFIG_NEW=y\nCONFIG_DEBUG_VM=y # optional\n", "base")
    assert fragments.known_symbols(tree) == {"KSM", "SWAP", "DEBUG_VM"}
    warnings = fragments.validate(options, "CONFIG_KSM=y\n# CONFIG_SWAP is not set\n", X86, tree)
    assert warnings == [
        "CONFIG_NEW=y (base:3): this tree has no such option",
        "CONFIG_DEBUG_VM=y (base:4): did not stick, it became n; it is optional",
    ]


def test_validate_error_names_option_fragment_and_outcome(tree: Path) -> None:
    options = fragments.parse("CONFIG_KSM=y\nCONFIG_SWAP=n\nCONFIG_DEBUG_VM=y # optional: aarch64\n", "base")
    with pytest.raises(BuildError) as e:
        fragments.validate(options, "CONFIG_SWAP=y\nCONFIG_KSM=m\n", X86, tree)
    for words in (
        "x86_64:",
        "CONFIG_KSM=y (base:1) did not stick: it became m",
        "CONFIG_SWAP=n (base:2) did not stick: it became y",
        "CONFIG_DEBUG_VM=y (base:3) did not stick: it became n",
    ):
        assert words in str(e.value)


def options_of(name: str) -> dict[str, str]:
    target = table()[name]
    return {o.name: o.value for o in fragments.options_for(target, map(fragments.find, target.fragments))}


def test_the_harness_own_fragments_merge() -> None:
    for target in table():
        assert {"KSM", "SWAP", "DEBUG_VM"} <= options_of(target).keys()


@pytest.mark.parametrize(
    ("target", "size"),
    [
        ("aarch64", "ARM64_4K_PAGES"),
        ("aarch64-16k", "ARM64_16K_PAGES"),
        ("aarch64-64k", "ARM64_64K_PAGES"),
        ("ppc64", "PPC_64K_PAGES"),
        ("ppc64-4k", "PPC_4K_PAGES"),
        ("ppc64le-64k", "PPC_64K_PAGES"),
        ("x86_64", None),
    ],
)
def test_a_kernel_is_asked_for_the_pages_of_its_row(target: str, size: str | None) -> None:
    assert [name for name in options_of(target) if name.endswith("_PAGES")] == [size] * bool(size)


def test_the_page_size_of_a_line() -> None:
    a, b, c = fragments.parse(
        "CONFIG_A=y  # page size: 65536\nCONFIG_B=y # page size 4096\n# CONFIG_C is not set # page size: 16384\n", "f"
    )
    assert [o.page_size for o in (a, b, c)] == [65536, 0, 16384]


def test_optional_lines_name_rows_of_the_table_or_architectures() -> None:
    rows = table()
    names = rows.keys() | {target.kernel_arch for target in rows.values()}
    for path in resources.directory("kconfigs").glob("*.config"):
        for option in fragments.read(path):
            assert option.optional is None or option.optional <= names, f"{path.name}:{option.line}"


def test_find(tmp_path: Path) -> None:
    assert fragments.find("net").name == "net.config"
    (tmp_path / "my.config").touch()
    assert fragments.find(str(tmp_path / "my.config")) == tmp_path / "my.config"
    with pytest.raises(UsageError, match=r"neither a file nor one of .*base.*net"):
        fragments.find("nett")


def test_unreadable(tmp_path: Path) -> None:
    (tmp_path / "x.config").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "x.config", tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError, match="cannot read the config fragment"):
            fragments.read(path)
