"""topology/block: which nodes Slurm's block plugin picks (src/plugins/topology/block/eval_nodes_block.c).

Base blocks lie in file order. A job that needs more than one is kept inside an aggregate of 2^k consecutive,
aligned base blocks, and inside of that in as few "lower level" blocks (the next smaller configured aggregate)
as possible. Each segment is placed like a job of its own."""

from __future__ import annotations

from collections.abc import Sequence

from hpadmin.topology.placement.bits import first, outside
from hpadmin.topology.placement.block_layout import BlockLayout
from hpadmin.topology.placement.demand import Action, Answer, Code, Demand, Pool
from hpadmin.topology.release import Release


def evaluate(layout: BlockLayout, demand: Demand, pool: Pool, release: Release) -> Answer:
    """Pick nodes for `demand` out of `pool`, as one call of ``eval_nodes_block`` does."""
    return _Evaluation(layout, demand, pool, release).run()


class _Failed(Exception):
    def __init__(self, code: Code, action: Action, why: str, left: int = 0) -> None:
        super().__init__(why)
        self.answer = Answer(code, left, action, why=why)


class _Evaluation:
    """The state of one evaluation; segments are placed one after the other and share it."""

    def __init__(self, layout: BlockLayout, demand: Demand, pool: Pool, release: Release) -> None:
        self.layout = layout
        self.demand = demand
        self.pool = pool
        self.release = release
        self.nodes = demand.nodes
        self.segment = demand.segment
        self.required = demand.required
        self.candidates = pool.available
        self.allocated = 0
        self.touched = 0
        self.enclosure: int | None = None
        self.per_enclosure = 0
        self.counts: list[int] | None = None
        """Free nodes of each base block for the next unit; None when they must be counted anew."""

    def run(self) -> Answer:
        try:
            chosen = self._all_segments()
        except _Failed as failure:
            return self._failure(failure.answer)
        return Answer(Code.SUCCESS, chosen, touched=self.touched)

    def _failure(self, answer: Answer) -> Answer:
        code, left, action = answer.code, answer.nodes, answer.action
        if not self.release.segments_span_blocks and code is not Code.TOPOLOGY:
            code, action = Code.ERROR, Action.NONE
        elif self.per_enclosure and self.enclosure is not None:
            # Segments that must stay together: the next try looks at the other aggregates only.
            span = self.per_enclosure * self.span
            left = 0
            for index, mask in enumerate(self.layout.masks):
                if index // span == self.enclosure:
                    left |= mask
            code, action = Code.SEGMENT_NO_FIT, Action.RETRY
        return Answer(code, left, action, self.touched, why=answer.why)

    def _all_segments(self) -> int:
        layout, nodes = self.layout, self.nodes
        if self.segment > nodes and self.release.ignores_oversized_segment:
            self.segment = 0
        if self.segment > layout.base and not self.release.segments_span_blocks:
            raise _Failed(
                Code.TOPOLOGY,
                Action.NONE,
                f"a segment of {self.segment} is larger than the planning block of {layout.base} nodes",
            )
        if self.segment and nodes % self.segment:
            raise _Failed(
                Code.TOPOLOGY,
                Action.NONE,
                f"{nodes} nodes are no multiple of the segment of {self.segment}",
            )
        count = nodes // self.segment if self.segment else 1
        self.unit = self.segment or nodes
        level = layout.level_for(self.unit)
        self.lower = layout.lower_level_for(self.unit)
        total = len(layout.masks)
        self.span = total if level is None else 1 << level
        self.lower_limit = -(-self.unit // (layout.base << self.lower))
        self.counts_lower = self.span != (1 << self.lower) * self.lower_limit
        if self.segment and self.demand.consolidate_segments:
            together = nodes
            if self.demand.spread_segments:
                together = -(-self.segment // layout.base) * layout.base * count
            outer = layout.level_for(together)
            self.per_enclosure = total if outer is None else 1 << max(0, outer - (level or 0))
        self._check_required(count)
        if count > 1 and self.release.counts_segments_first:
            self._count_segments(count)

        for number in range(count):
            try:
                chosen, used = self._place(self.candidates & ~self.allocated)
            except _Failed as failure:
                answer = failure.answer
                if not number:
                    raise
                left = answer.nodes | (self.allocated if answer.action is Action.HINT else 0)
                why = f"{number} of {count} segments fit; {answer.why}"
                raise _Failed(answer.code, answer.action, why, left) from None
            self.allocated |= chosen
            if self.demand.spread_segments and number + 1 < count:
                for block in used:
                    self.candidates = outside(self.candidates, layout.masks[block])
            if self.counts is not None:
                left = self.candidates & ~self.allocated
                for block in used:
                    self.counts[block] = (layout.masks[block] & left).bit_count()
        return self.allocated

    def _count_segments(self, wanted: int) -> None:
        """Give up where the aggregates, each by itself, have too few free nodes for so many segments."""
        self.counts = on_base = self.layout.count(self.candidates)
        starts = range(0, len(on_base), self.span)
        held = sum(sum(on_base[start : start + self.span]) // self.unit for start in starts)
        if held < wanted:
            unit = "block" if self.span == 1 else f"group of {self.span} neighbouring blocks"
            why = f"{held} of {wanted} segments fit: each needs {self.unit} free nodes in one {unit}"
            raise _Failed(Code.SEGMENT_NO_FIT, Action.BREAK, why)

    def _check_required(self, segments: int) -> None:
        required = self.required
        if not required:
            return
        several = segments > 1
        if several and not self.release.segments_span_blocks:
            raise _Failed(
                Code.TOPOLOGY,
                Action.NONE,
                "a node list together with more than one segment is not supported before Slurm 25.11",
            )
        if outside(required, self.pool.available):
            raise _Failed(Code.REQUIRED_BUSY, Action.BREAK, "a required node is not free")
        if outside(required, self.layout.all_nodes):
            code = Code.REQUIRED_APART if self.release.segments_span_blocks else Code.TOPOLOGY
            raise _Failed(code, Action.BREAK, "a required node is in no block")
        if required.bit_count() > self.nodes:
            raise _Failed(Code.NODE_LIMIT, Action.BREAK, "more nodes are required than the job has")
        if several:
            if required.bit_count() < self.nodes:
                raise _Failed(
                    Code.TOPOLOGY, Action.NONE, "with segments, the node list must name all nodes of the job"
                )
            self.candidates &= required
            self.required = 0

    # One segment, or the whole job ------------------------------------------------------------------------

    def _place(self, available: int) -> tuple[int, set[int]]:
        """Place one unit; returns its nodes and the indices of the base blocks taken by choice."""
        if not available:
            if self.allocated:
                raise _Failed(Code.SEGMENT_NO_FIT, Action.HINT, "no free node is left for the next")
            raise _Failed(Code.EMPTY, Action.BREAK, "no node is free")
        if self.counts is None:
            self.counts = self.layout.count(available)
        on_base = self.counts
        groups = self.pool.groups(available)
        rem = self.unit - self.required.bit_count()
        self.touched |= self.required
        chosen_block = self._choose_block(on_base, available, groups, rem)
        start = chosen_block * self.span
        inside = range(start, min(start + self.span, len(on_base)))
        block_mask = self._union(inside) & available
        if outside(self.required, block_mask):
            raise _Failed(
                Code.REQUIRED_APART,
                Action.BREAK,
                "the required nodes do not share a block of the needed size",
            )
        if self.per_enclosure and not self.allocated:
            self._enclose(chosen_block, available)
        if self.required and rem <= 0:
            return self.required, set()
        return self._fill(inside, block_mask, groups, rem)

    def _union(self, blocks: range) -> int:
        mask = 0
        for index in blocks:
            mask |= self.layout.masks[index]
        return mask

    def _enclose(self, chosen_block: int, available: int) -> None:
        """From now on only the aggregate that holds the first segment counts."""
        self.enclosure = chosen_block // self.per_enclosure
        span = self.per_enclosure * self.span
        start = self.enclosure * span
        self.candidates &= self._union(range(start, min(start + span, len(self.layout.masks)))) & available
        self.counts = None

    def _choose_block(
        self, on_base: Sequence[int], available: int, groups: Sequence[tuple[int, int]], rem: int
    ) -> int:
        """The aggregate to use: lightest nodes first, then the tightest; on ties the last one."""
        span = self.span
        if span == 1 and len(groups) == 1 and not self.required and not self.per_enclosure:
            return self._tightest(on_base, rem)
        best: int | None = None
        best_key = (0, 0)
        step = 1 << self.lower
        single_weight = groups[0][0] if len(groups) == 1 else None
        enclosures: dict[int, int] = {}
        if self.per_enclosure and not self.allocated:
            for index, count in enumerate(on_base):
                key = index // (span * self.per_enclosure)
                enclosures[key] = enclosures.get(key, 0) + count
        for block in range(-(-len(on_base) // span)):
            if enclosures and enclosures[block // self.per_enclosure] < self.nodes:
                continue
            counts = on_base[block * span : (block + 1) * span]
            total = sum(counts)
            usable = total
            if self.counts_lower:
                # Slurm counts whole lower level blocks only: a rest at the end of the system is left out.
                whole = [sum(counts[i : i + step]) for i in range(0, len(counts), step)][: span // step]
                usable = sum(sorted(whole, reverse=True)[: self.lower_limit])
            if self.required:
                if self.required & self._union(range(block * span, block * span + len(counts))):
                    return block
                continue
            if usable < rem or not total:
                continue
            weight = single_weight
            if weight is None:
                mask = self._union(range(block * span, block * span + len(counts))) & available
                weight = next(value for value, group in groups if group & mask)
            if best is None or (weight, total) <= best_key:
                best, best_key = block, (weight, total)
        if best is None:
            code = Code.SEGMENT_NO_FIT if self.segment and self.unit < self.nodes else Code.NO_FIT
            if enclosures and max(enclosures.values()) < self.nodes:
                why = (
                    f"all {self.nodes} nodes must be within {span * self.per_enclosure} neighbouring blocks "
                    f"(--consolidate-segments): the most that are free there is {max(enclosures.values())}"
                )
                raise _Failed(code, Action.BREAK, why)
            raise _Failed(code, Action.BREAK, self._nothing_fits(on_base))
        return best

    def _tightest(self, on_base: Sequence[int], rem: int) -> int:
        """The base block with the fewest free nodes that are enough: the usual case, and the quick one."""
        fitting = [count for count in on_base if count >= rem]
        if not fitting:
            code = Code.SEGMENT_NO_FIT if self.segment and self.unit < self.nodes else Code.NO_FIT
            raise _Failed(code, Action.BREAK, self._nothing_fits(on_base))
        return len(on_base) - 1 - on_base[::-1].index(min(fitting))

    def _nothing_fits(self, on_base: Sequence[int]) -> str:
        what = f"a segment of {self.unit}" if self.unit < self.nodes else f"a job of {self.unit} nodes"
        if self.span == 1:
            return f"{what} fits in no block: the most that one has free is {max(on_base, default=0)}"
        counts = [sum(on_base[i : i + self.span]) for i in range(0, len(on_base), self.span)]
        if max(counts, default=0) >= self.unit:
            wide = self.layout.base << self.lower
            return (
                f"{what} must be within {self.lower_limit} blocks of {wide} nodes, and though enough are free, "
                "so many blocks of one group do not have them"
            )
        return (
            f"{what} fits in no group of {self.span} neighbouring blocks: "
            f"the most that one has free is {max(counts, default=0)}"
        )

    def _fill(
        self,
        inside: range,
        block_mask: int,
        groups: Sequence[tuple[int, int]],
        rem: int,
    ) -> tuple[int, set[int]]:
        """Take nodes inside the chosen aggregate: required and lighter ones, then base block by base
        block."""
        limit = self.lower_limit
        taken = self.required
        required_blocks: set[int] = set()
        if self.required and self.counts_lower:
            limit -= self._mark(required_blocks, inside, self.required)
            if limit < 0:
                raise _Failed(
                    Code.TOPOLOGY, Action.NONE, "the required nodes are spread over too many blocks"
                )
        best = lighter = 0
        for _, group in groups:
            if best:
                lighter = best
            best |= group & block_mask & ~self.required
            if best.bit_count() >= rem:
                break
        else:
            raise _Failed(Code.INSUFFICIENT, Action.DEFAULT, "too few free nodes in the chosen block")
        if lighter:
            taken |= lighter
            self.touched |= lighter
            rem -= lighter.bit_count()
            limit -= self._mark(required_blocks, inside, lighter)
        if limit < 0:
            raise _Failed(Code.WEIGHT_NO_FIT, Action.DEFAULT, "the lightest nodes lie in too many blocks")

        for index in sorted(required_blocks):
            more = first(self.layout.masks[index] & best & ~taken, rem)
            taken |= more
            self.touched |= more
            rem -= more.bit_count()
            if rem <= 0:
                return taken, required_blocks
        return self._fill_blocks(inside, best, taken, required_blocks, rem, limit)

    def _mark(self, required_blocks: set[int], inside: range, nodes: int) -> int:
        """Note the base blocks that hold `nodes`; returns how many new lower level blocks that opens.

        Slurm compares each with the one before only, so one left and entered again counts twice.
        """
        opened = 0
        previous = -1
        for index in inside:
            if index in required_blocks:
                previous = index
                continue
            if nodes & self.layout.masks[index]:
                required_blocks.add(index)
                if previous >> self.lower != index >> self.lower:
                    opened += 1
                    previous = index
        return opened

    def _fill_blocks(
        self,
        inside: range,
        best: int,
        taken: int,
        used: set[int],
        rem: int,
        limit: int,
    ) -> tuple[int, set[int]]:
        masks = self.layout.masks
        if len(inside) > 8:
            all_counts = self.layout.count(best)
            counts = {index: all_counts[index] for index in inside if index not in used}
        else:
            counts = {index: (masks[index] & best).bit_count() for index in inside if index not in used}
        lower: dict[int, int] = {}
        for index, count in counts.items():
            lower[index >> self.lower] = lower.get(index >> self.lower, 0) + count
        while True:
            choice, same = self._next_block(counts, lower, used, rem)
            if choice is None or (limit <= 0 and not same):
                break
            used.add(choice)
            del counts[choice]
            more = first(masks[choice] & best & ~taken, rem)
            taken |= more
            self.touched |= more
            rem -= more.bit_count()
            if rem <= 0:
                return taken, used
            if not more:
                break
            if not same:
                limit -= 1
        raise _Failed(
            Code.INSUFFICIENT, Action.HINT, "the free nodes are spread over too many blocks", left=taken
        )

    def _next_block(
        self, counts: dict[int, int], lower: dict[int, int], used: set[int], rem: int
    ) -> tuple[int | None, bool]:
        """The base block to take next (``_choose_best_bblock``), and whether its lower level block is in
        use."""
        best: int | None = None
        best_same = True
        opened = {index >> self.lower for index in used}
        for index, count in counts.items():
            fits = count >= rem
            if self.counts_lower and (best is None or best >> self.lower != index >> self.lower):
                same = index >> self.lower in opened
                if best is None or (same and not best_same):
                    best, best_same = index, same
                    continue
                if best_same and not same:
                    continue
                ours, theirs = lower[index >> self.lower], lower[best >> self.lower]
                ours_fits, theirs_fits = ours >= rem, theirs >= rem
                if ours_fits != theirs_fits:
                    if ours_fits:
                        best, best_same = index, same
                    continue
                if ours != theirs:
                    if (ours < theirs) if ours_fits else (ours > theirs):
                        best, best_same = index, same
                    continue
            if best is None:
                best = index
                continue
            best_fits = counts[best] >= rem
            if (
                (fits and not best_fits)
                or (not fits and not best_fits and count >= counts[best])
                or (fits and count <= counts[best])
            ):
                best = index
        return best, best_same
