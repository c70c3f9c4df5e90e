"""Device code of `avar_eval.attention.triton_mass`: attention masses and their gradient on a GPU's tensor cores.

Products run in the input's own precision with float32 sums (float32 inputs are not rounded to tf32), exponentials in
powers of 2. Nothing is added atomically: every run adds in the same order. It also runs in the interpreter.

Rows are packed: row i of a key head is query i % rows of the i // rows-th head that shares it. Keys come in the blocks
that `avar_eval.attention.key_blocks` lists cell by cell, ascending, so that a search finds the blocks that a block of
rows can see, and loops over them have no branches.

What belongs together travels as a tuple:

- query, key: (pointer, batch stride, head stride, row stride); lse: the same, and None if it holds every query, or 1 if
  the queries of interest alone
- chosen: (rows, first_row, row_list): the queries of interest, a range, or a list if there is one. Kernels take the
  three apart: as numbers of a tuple Triton would compile anew for what they are multiples of
- hide: the window's width; of padding and of segments pointer and batch stride; of the mask pointer, batch, head, query
  and key stride; None for what there is not (flat: Triton before 3.8 loses a stride of 1 in a tuple within a tuple)
- score: (scale, softcap or None)
- blocks: (positions, their batch stride, cells, firsts, lasts, batch stride of these two, read)
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
BLOCK = tl.constexpr(64)
"""Keys of a listed block (`avar_eval.attention.key_blocks.BLOCK`)."""
DOUBT = tl.constexpr(1 / 256)
"""A mass by difference that is below this is read instead (see `avar_eval.attention.mass`)."""


@triton.jit
def _tanh(x):
    small = tl.exp2(tl.abs(x) * (-2 * LOG2_E))
    size = (1 - small) / (1 + small)
    return tl.where(x < 0, -size, size)


@triton.jit
def _row_at(index, chosen):
    """The query, counted from the call's first, at an index into the queries of interest."""
    if chosen[2] is None:
        at = chosen[1] + index
    else:
        at = tl.load(chosen[2] + index)
    return at


@triton.jit
def _packed(start, stop, heads_before, chosen, height: tl.constexpr):
    """A block of packed rows: heads, indices into the queries, queries, whether it is one; the lowest and highest."""
    packed = start + tl.arange(0, height)
    ok = packed < stop
    packed = tl.minimum(packed, stop - 1)
    rows = chosen[0]
    last = tl.minimum(start + height, stop) - 1
    together = start // rows == last // rows  # of one head
    lowest = _row_at(tl.where(together, start % rows, 0), chosen)
    highest = _row_at(tl.where(together, last % rows, rows - 1), chosen)
    index = packed % rows
    return heads_before + packed // rows, index, _row_at(index, chosen).to(tl.int64), ok, lowest, highest


@triton.jit
def _states(states, batch, head, at, ok, dim: tl.constexpr, wide: tl.constexpr):
    """Rows of queries [rows wide], filled up with 0."""
    d = tl.arange(0, wide)
    place = states[0] + batch * states[1] + (head * states[2] + at * states[3])[:, None] + d[None]
    return tl.load(place, mask=ok[:, None] & (d < dim)[None], other=0.0)


@triton.jit
def _normaliser(lse, batch, head, index, at, ok):
    """lse of rows, +inf for a query that sees no key (kernels give -inf, 0 or nan there): it has no mass."""
    place = at
    if lse[4] is not None:
        place = index.to(tl.int64)
    given = tl.load(lse[0] + batch * lse[1] + head * lse[2] + place * lse[3], mask=ok, other=float("inf"))
    return tl.where(tl.abs(given) < float("inf"), given, float("inf"))


@triton.jit
def _columns(key, batch, kv_head, position, ok, dim: tl.constexpr, wide: tl.constexpr):
    """Keys as columns [wide keys], filled up with 0."""
    d = tl.arange(0, wide)
    place = key[0] + batch * key[1] + kv_head * key[2] + (position.to(tl.int64) * key[3])[None] + d[:, None]
    return tl.load(place, mask=(d < dim)[:, None] & ok[None], other=0.0)


@triton.jit
def _segment(hide, batch, own):
    of_row = own
    if hide[3] is not None:
        of_row = tl.load(hide[3] + batch * hide[4] + own)
    return of_row


@triton.jit
def _visible(own, at, ok, batch, segment, position, key_ok, hide, causal: tl.constexpr):
    """Which keys (columns) which queries (rows) see, but for a dense mask."""
    visible = ok[:, None] & key_ok[None]
    if causal:
        visible = visible & (position[None] <= own[:, None])
    if hide[0] is not None:
        visible = visible & (position[None] > own[:, None] - hide[0])
    if hide[1] is not None:
        visible = visible & (tl.load(hide[1] + batch * hide[2] + position, mask=key_ok, other=0) != 0)[None]
    if hide[3] is not None:
        of_key = tl.load(hide[3] + batch * hide[4] + position, mask=key_ok, other=-1)
        visible = visible & (of_key[None] == segment[:, None])
    return visible


@triton.jit
def _scores(products, head, own, at, ok, batch, segment, position, key_ok, hide, score, causal: tl.constexpr):
    """Scores as the softmax takes them, -inf where a key is hidden."""
    visible = _visible(own, at, ok, batch, segment, position, key_ok, hide, causal)
    scores = products * score[0]
    if score[1] is not None:
        scores = score[1] * _tanh(scores / score[1])
    if hide[5] is not None:
        of_row = (head * hide[7] + at * hide[8])[:, None]
        place = hide[5] + batch * hide[6] + of_row + (position * hide[9])[None]
        dense = tl.load(place, mask=visible, other=0)
        if hide[5].dtype.element_ty == tl.uint8:
            visible = visible & (dense != 0)
        else:
            scores += dense.to(tl.float32)
    return tl.where(visible, scores, float("-inf"))


@triton.jit
def _attention(products, lse, head, own, at, ok, batch, segment, position, key_ok, hide, score,
               causal: tl.constexpr, check: tl.constexpr):  # fmt: skip
    """A_ij = exp(s_ij - lse_i). check: whether any key may be hidden."""
    if check:
        scores = _scores(products, head, own, at, ok, batch, segment, position, key_ok, hide, score, causal)
        # not in powers of 2 before: an added mask may hold the smallest float
        attention = tl.exp2((scores - lse[:, None]) * LOG2_E)
    else:
        if score[1] is not None:
            products = score[1] * _tanh(products * (score[0] / score[1]))
            attention = tl.exp2(products * LOG2_E - (lse * LOG2_E)[:, None])
        else:
            attention = tl.exp2(products * (score[0] * LOG2_E) - (lse * LOG2_E)[:, None])
    return attention


@triton.jit
def _cap_slope(products, score):
    """1 - tanh(s / softcap)^2."""
    t = _tanh(products * (score[0] / score[1]))
    return 1 - t * t


@triton.jit
def _search(ends, start, stop, limit):
    """The first of the ascending blocks start .. stop - 1 whose end is beyond `limit`."""
    start, stop = tl.cast(start, tl.int32), tl.cast(stop, tl.int32)  # constants cannot change in a loop
    while start < stop:
        middle = (start + stop) // 2
        if tl.load(ends + middle) <= limit:
            start = middle + 1
        else:
            stop = middle
    return start


@triton.jit
def _seen(cell, firsts, lasts, lowest, highest, hide, causal: tl.constexpr, plain: tl.constexpr):
    """Of a cell's blocks: the first that any row sees, the first that may hide a key, and the end."""
    begin = tl.load(cell)
    end = begin + tl.load(cell + 1)
    if hide[0] is not None:
        begin = _search(lasts, begin, end, lowest - hide[0])
    if causal:
        end = _search(firsts, begin, end, highest)
    unsure = begin
    if plain:  # nothing but causality hides; a block with gaps ends at the largest integer
        if causal:
            unsure = _search(lasts, begin, end, lowest)
        else:
            unsure = _search(lasts, begin, end, 2147483646)
    return begin, unsure, end


@triton.jit
def _block_sum(q, lse, head, own, at, ok, batch, segment, key, kv_head, positions, j, hide, score, dim: tl.constexpr,
               wide: tl.constexpr, width: tl.constexpr, causal: tl.constexpr, check: tl.constexpr):  # fmt: skip
    position = tl.load(positions + j + tl.arange(0, width))
    key_ok = position >= 0
    k = _columns(key, batch, kv_head, position, key_ok, dim, wide)
    products = tl.dot(q, k, input_precision="ieee")
    part = _attention(products, lse, head, own, at, ok, batch, segment, position, key_ok, hide, score, causal, check)
    return tl.sum(part, 1)


@triton.jit
def _cell_sum(cell, firsts, lasts, lowest, highest, q, lse, head, own, at, ok, batch, segment, key, kv_head, positions,
              hide, score, dim: tl.constexpr, wide: tl.constexpr, height: tl.constexpr, width: tl.constexpr,
              causal: tl.constexpr, plain: tl.constexpr):  # fmt: skip
    """The mass of each row on one cell."""
    begin, unsure, end = _seen(cell, firsts, lasts, lowest, highest, hide, causal, plain)
    total = tl.zeros([height], tl.float32)
    if plain:
        for j in range(begin * BLOCK, unsure * BLOCK, width):
            total += _block_sum(q, lse, head, own, at, ok, batch, segment, key, kv_head, positions, j, hide, score,
                                dim, wide, width, causal, False)  # fmt: skip
    for j in range(unsure * BLOCK, end * BLOCK, width):
        total += _block_sum(q, lse, head, own, at, ok, batch, segment, key, kv_head, positions, j, hide, score,
                            dim, wide, width, causal, True)  # fmt: skip
    return total


@triton.jit(do_not_specialize=["rows", "first_row", "offset", "kv_heads", "cells"])
def masses(query, key, lse, rows, first_row, row_list, blocks, out, hide, score, offset, kv_heads, cells,
           groups: tl.constexpr,
           share: tl.constexpr, dim: tl.constexpr, wide: tl.constexpr, height: tl.constexpr, width: tl.constexpr,
           slots: tl.constexpr, causal: tl.constexpr, plain: tl.constexpr, difference: tl.constexpr,
           every: tl.constexpr):  # fmt: skip
    """out [batch heads rows groups]: the share of each query's attention on each group.

    slots: a power of 2, at least `groups`. difference: whether any sequence has a cell whose mass is 1 minus the
    others'. every: whether all cells are read.
    """
    chosen = (rows, first_row, row_list)
    batch = (tl.program_id(1) // kv_heads).to(tl.int64)
    kv_head = (tl.program_id(1) % kv_heads).to(tl.int64)
    start = tl.program_id(0) * height
    head, index, at, ok, lowest, highest = _packed(start, share * chosen[0], kv_head * share, chosen, height)
    own, lowest, highest = (at + offset).to(tl.int32), lowest + offset, highest + offset
    q = _states(query, batch, head, at, ok, dim, wide)
    of_row = _normaliser(lse, batch, head, index, at, ok)
    segment = _segment(hide, batch, own)
    positions = blocks[0] + batch * blocks[1]
    firsts, lasts = blocks[3] + batch * blocks[5], blocks[4] + batch * blocks[5]
    table = blocks[2] + batch * cells * 3
    slot = tl.arange(0, slots)
    sums = tl.zeros([height, slots], tl.float32)
    everything = tl.zeros([height], tl.float32)
    read = tl.load(blocks[6] + batch)
    if every:
        read = cells
    for c in range(read):
        cell = table + c * 3
        total = _cell_sum(cell, firsts, lasts, lowest, highest, q, of_row, head, own, at, ok, batch, segment, key,
                          kv_head, positions, hide, score, dim, wide, height, width, causal, plain)  # fmt: skip
        everything += total
        sums += total[:, None] * ((tl.load(cell + 2) >> slot) & 1).to(tl.float32)[None]
    if difference:
        rest = table + tl.minimum(read, cells - 1) * 3
        bits = tl.where(read < cells, tl.load(rest + 2), 0)
        if bits != 0:
            known = ok & (of_row < float("inf"))
            total = tl.where(known, 1 - everything, 0.0)
            # a query that sees none of the others may see nothing at all
            doubtful = known & ((total < DOUBT) | (everything == 0))
            if tl.max(doubtful.to(tl.int32), 0) > 0:
                total = _cell_sum(rest, firsts, lasts, lowest, highest, q, of_row, head, own, at, ok, batch, segment,
                                  key, kv_head, positions, hide, score, dim, wide, height, width, causal,
                                  plain)  # fmt: skip
            sums += total[:, None] * ((bits >> slot) & 1).to(tl.float32)[None]
    place = ((batch * kv_heads + kv_head) * share * chosen[0] + start + tl.arange(0, height)) * groups
    tl.store(out + place[:, None] + slot[None], sums, mask=ok[:, None] & (slot < groups)[None])


@triton.jit
def _row_slopes(gradient, mass, kv_rows, packed, ok, largest, groups: tl.constexpr, slots: tl.constexpr):
    """dL/dmass [rows slots] and sum_g mass_g dL/dmass_g [rows], over the largest |dL/dmass| of all."""
    slot = tl.arange(0, slots)
    place = ((kv_rows + packed) * groups)[:, None] + slot[None]
    wanted = ok[:, None] & (slot < groups)[None]
    slopes = tl.load(gradient + place, mask=wanted, other=0.0) * largest
    return slopes, tl.sum(slopes * tl.load(mass + place, mask=wanted, other=0.0), 1)


@triton.jit
def _unit(largest, dtype: tl.constexpr):
    """What slopes are multiplied by, and what undoes it: a loss's 1 / (layers * heads * queries) is lost in float16."""
    most = tl.load(largest)
    top: tl.constexpr = 1024.0 if dtype == tl.float16 else 1.0
    return tl.where(most > 0, top / most, 0.0), most / top


@triton.jit
def _block_query_gradient(acc, slope, q, lse, head, own, at, ok, batch, segment, key, kv_head, positions, j, hide,
                          score, dim: tl.constexpr, wide: tl.constexpr, width: tl.constexpr, causal: tl.constexpr,
                          check: tl.constexpr, fine: tl.constexpr):  # fmt: skip
    position = tl.load(positions + j + tl.arange(0, width))
    key_ok = position >= 0
    k = _columns(key, batch, kv_head, position, key_ok, dim, wide)
    products = tl.dot(q, k, input_precision="ieee")
    part = _attention(products, lse, head, own, at, ok, batch, segment, position, key_ok, hide, score, causal, check)
    part *= slope[:, None]
    if score[1] is not None:
        part *= _cap_slope(products, score)
    if fine:
        acc = tl.dot(part.to(k.dtype), tl.trans(k), acc, input_precision="ieee")
        part -= part.to(k.dtype).to(tl.float32)
    return tl.dot(part.to(k.dtype), tl.trans(k), acc, input_precision="ieee")


@triton.jit(do_not_specialize=["rows", "first_row", "offset", "kv_heads", "cells"])
def query_gradient(query, key, lse, rows, first_row, row_list, blocks, mass, gradient, largest, out, hide,
                   score, offset, kv_heads, cells,
                   groups: tl.constexpr, share: tl.constexpr, dim: tl.constexpr, wide: tl.constexpr,
                   height: tl.constexpr, width: tl.constexpr, slots: tl.constexpr, causal: tl.constexpr,
                   plain: tl.constexpr, fine: tl.constexpr):  # fmt: skip
    """dL/dquery of the queries of interest, into out: (pointer, batch, head and row stride).

    mass, gradient: [batch heads rows groups]; largest: the largest |gradient|. fine: whether slopes are multiplied in
    two parts, which keeps twice the digits: over many queries roundings cancel, over a few they do not.
    """
    chosen = (rows, first_row, row_list)
    batch = (tl.program_id(1) // kv_heads).to(tl.int64)
    kv_head = (tl.program_id(1) % kv_heads).to(tl.int64)
    start = tl.program_id(0) * height
    head, index, at, ok, lowest, highest = _packed(start, share * chosen[0], kv_head * share, chosen, height)
    own, lowest, highest = (at + offset).to(tl.int32), lowest + offset, highest + offset
    q = _states(query, batch, head, at, ok, dim, wide)
    of_row = _normaliser(lse, batch, head, index, at, ok)
    segment = _segment(hide, batch, own)
    positions = blocks[0] + batch * blocks[1]
    firsts, lasts = blocks[3] + batch * blocks[5], blocks[4] + batch * blocks[5]
    unit, size = _unit(largest, query[0].dtype.element_ty)
    kv_rows = (batch * kv_heads + kv_head) * share * chosen[0]
    slopes, mean = _row_slopes(gradient, mass, kv_rows, start + tl.arange(0, height), ok, unit, groups, slots)
    slot = tl.arange(0, slots)
    acc = tl.zeros([height, wide], tl.float32)
    for c in range(cells):
        cell = blocks[2] + (batch * cells + c) * 3
        inside = ((tl.load(cell + 2) >> slot) & 1).to(tl.float32)
        slope = tl.sum(slopes * inside[None], 1) - mean
        begin, unsure, end = _seen(cell, firsts, lasts, lowest, highest, hide, causal, plain)
        if plain:
            for j in range(begin * BLOCK, unsure * BLOCK, width):
                acc = _block_query_gradient(acc, slope, q, of_row, head, own, at, ok, batch, segment, key, kv_head,
                                            positions, j, hide, score, dim, wide, width, causal, False,
                                            fine)  # fmt: skip
        for j in range(unsure * BLOCK, end * BLOCK, width):
            acc = _block_query_gradient(acc, slope, q, of_row, head, own, at, ok, batch, segment, key, kv_head,
                                        positions, j, hide, score, dim, wide, width, causal, True, fine)  # fmt: skip
    d = tl.arange(0, wide)
    place = out[0] + batch * out[1] + (head * out[2] + at * out[3])[:, None] + d[None]
    tl.store(place, (acc * (score[0] * size)).to(out[0].dtype.element_ty), mask=ok[:, None] & (d < dim)[None])


@triton.jit
def _block_key_gradient(acc, i, head, bits, k, query, lse, chosen, mass, gradient, unit, batch, all_heads, position,
                        key_ok, hide, score, offset, groups: tl.constexpr, dim: tl.constexpr, wide: tl.constexpr,
                        height: tl.constexpr, slots: tl.constexpr, causal: tl.constexpr, check: tl.constexpr,
                        fine: tl.constexpr):  # fmt: skip
    rows = chosen[0]
    index = i + tl.arange(0, height)
    ok = index < rows
    at = _row_at(tl.minimum(index, rows - 1), chosen).to(tl.int64)
    own = at + offset
    head_of = head + tl.zeros([height], tl.int64)
    q = _states(query, batch, head_of, at, ok, dim, wide)
    of_row = _normaliser(lse, batch, head_of, tl.minimum(index, rows - 1), at, ok)
    slopes, mean = _row_slopes(gradient, mass, (batch * all_heads + head) * rows, index, ok, unit, groups, slots)
    inside = ((bits >> tl.arange(0, slots)) & 1).to(tl.float32)
    slope = tl.sum(slopes * inside[None], 1) - mean
    products = tl.dot(q, k, input_precision="ieee")
    part = _attention(products, of_row, head_of, own, at, ok, batch, _segment(hide, batch, own), position, key_ok, hide,
                      score, causal, check)  # fmt: skip
    part *= slope[:, None]
    if score[1] is not None:
        part *= _cap_slope(products, score)
    if fine:
        acc = tl.dot(tl.trans(part).to(q.dtype), q, acc, input_precision="ieee")
        part -= part.to(q.dtype).to(tl.float32)
    return tl.dot(tl.trans(part).to(q.dtype), q, acc, input_precision="ieee")


@triton.jit
def _row_search(chosen, limit):
    """The first of the ascending queries of interest that is beyond `limit`."""
    if chosen[2] is None:
        index = tl.minimum(tl.maximum(limit + 1 - chosen[1], 0), chosen[0])
    else:
        index = _search(chosen[2], 0, chosen[0], limit)
    return index


@triton.jit(do_not_specialize=["rows", "first_row", "offset", "kv_heads", "cells", "listed"])
def key_gradient(query, key, lse, rows, first_row, row_list, blocks, mass, gradient, largest, out, hide,
                 score, offset, kv_heads, cells,
                 listed, groups: tl.constexpr, share: tl.constexpr, dim: tl.constexpr, wide: tl.constexpr,
                 height: tl.constexpr, width: tl.constexpr, slots: tl.constexpr, causal: tl.constexpr,
                 plain: tl.constexpr, fine: tl.constexpr):  # fmt: skip
    """dL/dkey of every key, into out: (pointer, batch, head and row stride); one listed block a program."""
    chosen = (rows, first_row, row_list)
    batch = (tl.program_id(1) // kv_heads).to(tl.int64)
    kv_head = (tl.program_id(1) % kv_heads).to(tl.int64)
    j = tl.program_id(0) * width
    block = j // BLOCK
    position = tl.load(blocks[0] + batch * blocks[1] + j + tl.arange(0, width))
    key_ok = position >= 0
    first = tl.load(blocks[3] + batch * blocks[5] + block)
    last = tl.load(blocks[4] + batch * blocks[5] + block)
    bits = 0
    for c in range(cells):
        cell = blocks[2] + (batch * cells + c) * 3
        begin = tl.load(cell)
        bits += tl.where((begin <= block) & (block < begin + tl.load(cell + 1)), tl.load(cell + 2), 0)
    begin = 0
    end = chosen[0] + 0
    if causal:
        begin = _row_search(chosen, first - 1 - offset) // height * height
    unsure = end
    if plain:  # from the first block of rows on that all see the whole of a block without gaps
        if causal:
            unsure = _row_search(chosen, tl.minimum(last, listed) - 1 - offset)
        else:
            unsure = tl.where(last > listed, end, 0)
        unsure = tl.minimum((unsure + height - 1) // height * height, end)
    unsure = tl.maximum(unsure, begin)
    if hide[0] is not None:
        end = _row_search(chosen, tl.minimum(last, listed) + hide[0] - 1 - offset)
        unsure = tl.minimum(unsure, end)
    k = _columns(key, batch, kv_head, position, key_ok, dim, wide)
    unit, size = _unit(largest, query[0].dtype.element_ty)
    acc = tl.zeros([width, wide], tl.float32)
    all_heads = kv_heads * share
    for h in range(share):
        head = kv_head * share + h
        for i in range(begin, unsure, height):
            acc = _block_key_gradient(acc, i, head, bits, k, query, lse, chosen, mass, gradient, unit, batch, all_heads,
                                      position, key_ok, hide, score, offset, groups, dim, wide, height, slots, causal,
                                      True, fine)  # fmt: skip
        if plain:
            for i in range(unsure, end, height):
                acc = _block_key_gradient(acc, i, head, bits, k, query, lse, chosen, mass, gradient, unit, batch,
                                          all_heads, position, key_ok, hide, score, offset, groups, dim, wide, height,
                                          slots, causal, False, fine)  # fmt: skip
    d = tl.arange(0, wide)
    place = out[0] + batch * out[1] + kv_head * out[2] + (position.to(tl.int64) * out[3])[:, None] + d[None]
    tl.store(place, (acc * (score[0] * size)).to(out[0].dtype.element_ty), mask=key_ok[:, None] & (d < dim)[None])


@triton.jit(do_not_specialize=["rows", "first_row", "offset", "kv_heads", "keys", "part"])
def on_all_keys(query, key, rows, first_row, row_list, bits, lse, mass, hide, score, offset, kv_heads, keys,
                part, groups: tl.constexpr,
                share: tl.constexpr, dim: tl.constexpr, wide: tl.constexpr, height: tl.constexpr, width: tl.constexpr,
                slots: tl.constexpr, causal: tl.constexpr):  # fmt: skip
    """Normalisers and masses over `part` keys a program: an online softmax whose values are the groups.

    bits: (pointer, batch stride) of each key's groups, None if masses are not wanted. lse [parts batch heads rows],
    mass [parts batch heads rows groups].
    """
    chosen = (rows, first_row, row_list)
    batch = (tl.program_id(1) // kv_heads).to(tl.int64)
    kv_head = (tl.program_id(1) % kv_heads).to(tl.int64)
    start = tl.program_id(0) * height
    head, _, at, ok, lowest, highest = _packed(start, share * chosen[0], kv_head * share, chosen, height)
    own = at + offset
    q = _states(query, batch, head, at, ok, dim, wide)
    segment = _segment(hide, batch, own)
    begin = tl.program_id(2) * part
    end = tl.minimum(begin + part, keys)
    if causal:
        end = tl.minimum(end, highest + offset + 1)
    if hide[0] is not None:
        begin = tl.maximum(begin, lowest + offset - hide[0] + 1)
    slot = tl.arange(0, slots)
    most = tl.full([height], float("-inf"), tl.float32)
    weight = tl.zeros([height], tl.float32)
    sums = tl.zeros([height, slots], tl.float32)
    for j in range(begin, end, width):
        position = j + tl.arange(0, width)
        key_ok = position < end
        k = _columns(key, batch, kv_head, position, key_ok, dim, wide)
        products = tl.dot(q, k, input_precision="ieee")
        scores = _scores(products, head, own, at, ok, batch, segment, position, key_ok, hide, score, causal)
        higher = tl.maximum(most, tl.max(scores, 1))
        origin = tl.where(higher == float("-inf"), 0.0, higher)
        before = tl.exp2((most - origin) * LOG2_E)
        weights = tl.exp2((scores - origin[:, None]) * LOG2_E)
        weight = weight * before + tl.sum(weights, 1)
        if bits is not None:
            of_key = tl.load(bits[0] + batch * bits[1] + position, mask=key_ok, other=0)
            members = ((of_key[:, None] >> slot[None]) & 1).to(tl.float32)
            sums = tl.dot(weights, members, sums * before[:, None], input_precision="ieee")
        most = higher
    row = (tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)).to(tl.int64) * (share * chosen[0])
    row += start + tl.arange(0, height)
    tl.store(lse + row, tl.where(weight > 0, most + tl.log(weight), float("-inf")), mask=ok)
    if bits is not None:
        shares = tl.where(weight > 0, 1 / weight, 0.0)[:, None] * sums
        tl.store(mass + (row * groups)[:, None] + slot[None], shares, mask=ok[:, None] & (slot < groups)[None])


@triton.jit(do_not_specialize=["rows", "parts"])
def joined(lse, mass, of_all, out, rows, parts, groups: tl.constexpr, height: tl.constexpr,
           slots: tl.constexpr):  # fmt: skip
    """Normalisers (of_all [rows]) and masses (out [rows groups]) over all parts; out is None if not wanted."""
    row = tl.program_id(0).to(tl.int64) * height + tl.arange(0, height)
    ok, slot = row < rows, tl.arange(0, slots)
    most = tl.full([height], float("-inf"), tl.float32)
    for part in range(parts):
        most = tl.maximum(most, tl.load(lse + part * rows + row, mask=ok, other=float("-inf")))
    origin = tl.where(most == float("-inf"), 0.0, most)
    weight = tl.zeros([height], tl.float32)
    sums = tl.zeros([height, slots], tl.float32)
    for part in range(parts):
        of_part = tl.exp2((tl.load(lse + part * rows + row, mask=ok, other=float("-inf")) - origin) * LOG2_E)
        weight += of_part
        if out is not None:
            place = ((part * rows + row) * groups)[:, None] + slot[None]
            shares = tl.load(mass + place, mask=ok[:, None] & (slot < groups)[None], other=0.0)
            sums += of_part[:, None] * shares
    tl.store(of_all + row, tl.where(weight > 0, origin + tl.log(weight), float("-inf")), mask=ok)
    if out is not None:
        shares = tl.where(weight > 0, 1 / weight, 0.0)[:, None] * sums
        tl.store(out + (row * groups)[:, None] + slot[None], shares, mask=ok[:, None] & (slot < groups)[None])
