# SPDX-License-Identifier: GPL-2.0-or-later
"""Making mutants: tokens, statements, operators, names."""

from __future__ import annotations

import pytest

from harness.csource.statements import statements
from harness.csource.tokens import functions, tokenize
from harness.mutation import generator

SOURCE = """\
/* { not a brace } */
#define LOOP(x) \\
	{ (x)
static int other(void) { return 0; }

static struct page *try_to_merge_it(struct item *item,
				struct page *page)
{
	struct mm_struct *mm = item->mm;
	int err = 0;

	VM_BUG_ON(!page);
	if (!page || page->count >= 2)
		goto out;
again:
	list_for_each_entry(item, &mm->items, list) {
		cond_resched();
		if (item->last)
			break;
		else
			ksm_pages_shared++;
	}
#ifdef VM_SAO
	flush();
#endif
	hlist_for_each(x, y)
		add(x,
			"a ; string");
	do {
		err = step(mm);
	} while (!err);
	switch (err) {
	case 1:
		get_page(page);
		break;
	default:
		put_page(page);
	}
	if (err < 0 && mm->users && page)
		return NULL;
out:
	return page;
}

void twice(void) { one(); }
#else
void twice(void) { }
"""


@pytest.fixture
def made() -> list[generator.Made]:
    return generator.mutants("mm/ksm.c", SOURCE, ["try_to_merge_it"])


def words(made: list[generator.Made], operator: str) -> list[str]:
    return [m.words.removesuffix(", in try_to_merge_it") for m in made if m.operator == operator]


def test_functions_are_found() -> None:
    assert [f.name for f in functions(SOURCE)] == ["other", "try_to_merge_it", "twice", "twice"]


def test_tokens_skip_comments_and_keep_offsets() -> None:
    text = "a /* ; */ += b->c; // d\n"
    assert [t.text for t in tokenize(text)] == ["a", "+=", "b", "->", "c", ";"]
    assert all(text[t.start : t.end] == t.text for t in tokenize(text))


def test_statements_know_their_kind() -> None:
    body = statements(list(functions(SOURCE))[1])
    kinds = [s.kind for s in body.inner]
    assert kinds == [
        "declaration", "declaration", "expression", "if", "label", "loop", "directive", "expression", "directive", "loop",
        "while", "loop", "if", "label", "jump",
    ]  # fmt: skip


def test_drop_spans_lines_and_keeps_their_number(made: list[generator.Made]) -> None:
    assert words(made, "drop") == [
        'drop "ksm_pages_shared++;"',
        'drop "flush();"',
        'drop "add(x, "a ; string");"',
        'drop "err = step(mm);"',
    ]
    spanning = next(m for m in made if "a ; string" in m.words)
    changes = [line[0] for line in spanning.patch.splitlines()[2:] if line[0] in "+-"]
    assert changes == ["-", "-", "+", "+"]


def test_halves_of_pairs_have_an_operator_of_their_own(made: list[generator.Made]) -> None:
    assert words(made, "unpair") == ['drop "get_page(page);"', 'drop "put_page(page);"']
    assert words(made, "double") == ['"get_page(page);" twice', '"put_page(page);" twice']


def test_jumps_but_not_the_last_return(made: list[generator.Made]) -> None:
    assert words(made, "jump") == ['drop "goto out;"', 'drop "break;"', 'drop "break;"', 'drop "return NULL;"']
    assert len({m.name for m in made}) == len(made)  # of two alike, too


def test_conditions_are_negated_and_weakened(made: list[generator.Made]) -> None:
    assert words(made, "negate") == [
        'negate "!page || page->count >= 2"', 'negate "item->last"', 'negate "!err"', 'negate "err < 0 && mm->users && page"',
    ]  # fmt: skip
    weakened = [m for m in made if m.operator == "weaken" and "users" in m.words]
    assert [next(line for line in m.patch.splitlines() if line.startswith("+\t")) for m in weakened] == [
        "+\tif ( mm->users && page)",
        "+\tif (err < 0  && page)",
        "+\tif (err < 0 && mm->users )",
    ]


def test_off_by_one_and_swapped_counters(made: list[generator.Made]) -> None:
    shifted = words(made, "shift")
    assert '>= becomes > in "!page || page->count >= 2"' in shifted
    assert '2 becomes 3 in "!page || page->count >= 2"' in shifted
    assert '++ becomes -- in "ksm_pages_shared++;"' in shifted
    assert words(made, "swap") == ['ksm_pages_shared becomes ksm_pages_sharing in "ksm_pages_shared++;"']


def test_assertions_are_left_alone(made: list[generator.Made]) -> None:
    assert not [m for m in made if "VM_BUG_ON" in m.words or "cond_resched" in m.words]


def test_all_differ_and_are_diffs_of_the_source(made: list[generator.Made]) -> None:
    patches = {m.patch for m in made}
    assert len(patches) == len(made)
    for m in made:
        assert m.patch.startswith("--- a/mm/ksm.c\n+++ b/mm/ksm.c\n@@ -")
        assert m.file.startswith(m.words) and f"Operator: {m.operator}\nLine: mm/ksm.c:{m.line}\n" in m.file
        old = [line[1:] for line in m.patch.splitlines()[3:] if line[0] in " -"]
        first = int(m.patch.split("@@ -")[1].split(",")[0])
        assert SOURCE.splitlines()[first - 1 : first - 1 + len(old)] == old


def test_names_stay_when_the_function_moves(made: list[generator.Made]) -> None:
    moved = generator.mutants("mm/ksm.c", "int x;\n\n" + SOURCE, ["try_to_merge_it"])
    assert [m.name for m in moved] == [m.name for m in made]
    assert [m.line - 2 for m in moved] == [m.line for m in made]


def test_choice_is_even_and_repeatable(made: list[generator.Made]) -> None:
    some = generator.choose(made, 8, 1)
    assert some == generator.choose(made, 8, 1)
    assert {m.operator for m in some} == {m.operator for m in made}
    assert [m for m in made if m in some] == some
    assert some != generator.choose(made, 8, 2)
    assert generator.choose(made, 1000, 1) == made


def test_the_first_of_two_definitions_counts() -> None:
    assert [m.words for m in generator.mutants("a.h", SOURCE, ["twice"])] == ['drop "one();", in twice']


def test_broken_source_is_told() -> None:
    with pytest.raises(ValueError, match="closes"):
        list(functions("int f(void) { if (x) {"))
