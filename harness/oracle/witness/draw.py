# SPDX-License-Identifier: GPL-2.0-or-later
"""From a look to a panel: stable nodes, the items that they have, the anon_vmas that these hold, and the vmas linked there.

Things are alike, and one box, when nothing but their addresses tells them apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping

from harness.drawing import Box, Link, Panel
from harness.graph import AnonVma, Item, Node, Vma
from harness.oracle.runs import ranges
from harness.oracle.trees import State
from harness.oracle.witness.lists import state
from harness.oracle.witness.matching import Match
from harness.oracle.witness.mismatch import Place
from harness.oracle.witness.references import Held, Name, unnamed, who_holds
from harness.oracle.witness.rmap import VM_MERGEABLE

MOST = 40  # boxes of one column

_STATES = {State.NONE: "in neither tree", State.UNSTABLE: "unstable", State.STABLE: "stable"}


def panel(
    match: Match, title: str, known: Mapping[int, Name], odd: Collection[int] = (), ghosts: Collection[Place] = ()
) -> Panel:
    """``known`` are the names of anon_vmas, ``odd`` the addresses to mark, ``ghosts`` the places of items that are missing."""
    return _Panel(match, known, odd).draw(title, ghosts)


class _Panel:
    def __init__(self, match: Match, known: Mapping[int, Name], odd: Collection[int]) -> None:
        self.match = match
        self.known = known
        self.odd = set(odd)
        self.boxes: list[Box] = []
        self.links: dict[tuple[int, int], Link] = {}
        self.left_out = 0

    def draw(self, title: str, ghosts: Collection[Place]) -> Panel:
        graph, held = self.match.graph, who_holds(self.match.graph)
        anon_vmas = self._relevant()
        nodes, items = self._classes()
        node_boxes = {k: self._nodes(list(members)) for k, members in nodes.items()}
        boxes: dict[int, int] = {}
        for key, members in items.items():
            box = self._items(members)
            if box is None:
                continue
            boxes |= dict.fromkeys((i.address for i in members), box)
            node = node_boxes.get(key[1]) if key[1] is not None else None
            if node is not None:
                self._link(node, box)
        for actor, area in dict.fromkeys(where[:2] for where in ghosts):
            pages = [where[2] for where in ghosts if where[:2] == (actor, area)]
            self._add(Box(1, f"{actor}.{area}{ranges(pages)}", "no rmap_item", len(pages), odd=True))
        avs = {a.address: b for a in anon_vmas if (b := self._anon_vma(a, held)) is not None}
        for item in graph.items.values():
            if item.address in boxes and item.anon_vma in avs:
                self._link(boxes[item.address], avs[item.anon_vma])
        self._vmas(anon_vmas, avs)
        return Panel(title, tuple(self.boxes), tuple(self.links.values()), self.left_out)

    def _relevant(self) -> list[AnonVma]:
        """The anon_vmas of mergeable areas and those that items hold, with all of the same root; and what is marked.

        What KSM has nothing to do with is left out.
        """
        graph = self.match.graph
        areas = [v for v in graph.vmas.values() if self._in_area(v)]
        wanted = {i.anon_vma for i in graph.items.values() if state(i) is State.STABLE}
        wanted |= {v.anon_vma for v in areas if v.flags & VM_MERGEABLE}
        roots = {a.root for a in graph.anon_vmas.values() if a.address in wanted}
        wanted |= {a for v in areas for a in (*v.chain, v.anon_vma)}
        found = [a for a in graph.anon_vmas.values() if (a.root in roots and a.address in wanted) or a.address in self.odd]
        found += [a for a in graph.former.values() if a.address in self.odd and a.address not in graph.anon_vmas]
        return sorted(found, key=lambda a: (self._name(a.address), a.address))

    def _name(self, address: int) -> str:
        return self.known.get(address, unnamed(address)).title

    def _in_area(self, vma: Vma) -> bool:
        return vma.mm in self.match.mms and self.match.place(vma.mm, vma.start)[1] != "?"

    def _classes(self) -> tuple[dict[Hashable, list[Node]], dict[tuple[Hashable, Hashable], list[Item]]]:
        """Nodes by what items they have, items by what they are and by what node they are in."""
        graph = self.match.graph
        kinds: dict[int, Hashable] = {}
        for item in graph.items.values():
            actor, area, _ = self.match.place(item.mm, item.addr)
            kinds[item.address] = (actor, area, state(item), item.anon_vma, item.address in self.odd)
        nodes: dict[Hashable, list[Node]] = {}
        of: dict[int, Hashable] = {}
        for node in graph.nodes.values():
            has = frozenset(Counter(kinds.get(a) for a in node.items).items())
            key = (node.tree, bool(node.chain), node.length == len(node.items), node.address in self.odd, has)
            nodes.setdefault(key, []).append(node)
            of[node.address] = key
        items: dict[tuple[Hashable, Hashable], list[Item]] = {}
        for item in sorted(graph.items.values(), key=lambda i: (self.match.place(i.mm, i.addr)[0], i.addr)):
            head = of.get(item.head) if state(item) is State.STABLE else None
            items.setdefault((kinds[item.address], head), []).append(item)
        return nodes, items

    def _add(self, box: Box) -> int | None:
        """Its number; None where the column is full, unless it is what the drawing is about."""
        if sum(b.column == box.column for b in self.boxes) >= MOST and not box.odd:
            self.left_out += 1
            return None
        self.boxes.append(box)
        return len(self.boxes) - 1

    def _link(self, left: int, right: int, *, strong: bool = False) -> None:
        old = self.links.get((left, right))
        self.links[left, right] = Link(left, right, strong=strong or (old is not None and old.strong))

    def _nodes(self, nodes: list[Node]) -> int | None:
        first = nodes[0]
        sizes = sorted({len(n.items) for n in nodes})
        text = f"{'–'.join(map(str, sizes[:1] + sizes[1:][-1:]))} item{'s' * (sizes != [1])}"
        text += " each" * (len(nodes) > 1) + ", dup in a chain" * bool(first.chain)
        if first.length not in (-1, len(first.items)):
            text += f", rmap_hlist_len {first.length}"
        title = f"kpfn {first.kpfn:#x}" + (" …" if len(nodes) > 1 else "")
        return self._add(Box(0, title, text, len(nodes), any(n.address in self.odd for n in nodes)))

    def _items(self, items: list[Item]) -> int | None:
        places = [self.match.place(i.mm, i.addr) for i in items]
        title = f"{places[0][0]}.{places[0][1]}{ranges(p[2] for p in places)}"
        text = _STATES[state(items[0])]
        if state(items[0]) is State.STABLE and items[0].anon_vma not in self.match.graph.anon_vmas:
            text += f", anon_vma {items[0].anon_vma:#x}" if items[0].anon_vma else ", no anon_vma"
        return self._add(Box(1, title, text, len(items), any(i.address in self.odd for i in items)))

    def _anon_vma(self, anon_vma: AnonVma, held: Held) -> int | None:
        right = held.right(anon_vma)
        text = f"refcount {anon_vma.refcount}" + (f", {right} is right" if right != anon_vma.refcount else "")
        if anon_vma.root != anon_vma.address:
            text += f", root: {self._name(anon_vma.root)}"
        return self._add(Box(2, self._name(anon_vma.address), text, 1, anon_vma.address in self.odd))

    def _vmas(self, anon_vmas: list[AnonVma], avs: dict[int, int]) -> None:
        """vmas with the same links: the parts of an area that was split, say."""
        graph = self.match.graph
        alike: dict[tuple[str, str, tuple[int, ...], int, bool], list[Vma]] = {}
        for address in dict.fromkeys(v for a in anon_vmas for v in a.vmas):
            vma = graph.vmas.get(address)
            if vma is not None:
                actor, area, _ = self.match.place(vma.mm, vma.start)
                linked = tuple(a.address for a in anon_vmas if address in a.vmas)
                alike.setdefault((actor, area, linked, vma.anon_vma, address in self.odd), []).append(vma)
        for key, vmas in sorted(alike.items()):
            places = [self.match.place(v.mm, v.start) for v in vmas]
            pages = [range(p[2], p[2] + self.match.page(v.end - v.start)) for p, v in zip(places, vmas, strict=True)]
            title = f"{places[0][0]}.{places[0][1]}{ranges(i for r in pages for i in r)}"
            box = self._add(Box(3, title, "linked, no anon_vma of its own" if not vmas[0].anon_vma else "", len(vmas), key[-1]))
            for anon_vma in anon_vmas:
                if box is not None and anon_vma.address in avs and any(v.address in anon_vma.vmas for v in vmas):
                    self._link(avs[anon_vma.address], box, strong=vmas[0].anon_vma == anon_vma.address)
