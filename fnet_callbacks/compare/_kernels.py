"""Compiled inner loops: matchings of the features of two persistence diagrams, quantiles, and silhouettes.

Every kernel releases the interpreter's lock, as distances are taken side by side in threads.
"""

import numpy as np

from fnet_callbacks.functional._kernels.base import kernel


@kernel
def bottleneck(a: np.ndarray, b: np.ndarray) -> float:
    """The bottleneck distance of two diagrams, ``[K, 2]`` and ``[M, 2]``, exact.

    A feature that lives longer than twice a radius has to be matched with one that is no further than it; for a radius
    to do, it is enough that this can be done for the features of either side on their own (Mendelsohn & Dulmage 1958).
    It is one of the distances between features, or half of a life, and no feature is nearer to anything than it.
    """
    half_a, half_b = (a[:, 1] - a[:, 0]) / 2, (b[:, 1] - b[:, 0]) / 2
    near_a, near_b = half_a.copy(), half_b.copy()
    for i in range(len(a)):
        for j in range(len(b)):
            distance = max(abs(a[i, 0] - b[j, 0]), abs(a[i, 1] - b[j, 1]))
            near_a[i] = min(near_a[i], distance)
            near_b[j] = min(near_b[j], distance)
    low, high = 0.0, 0.0
    for near in (near_a, near_b):
        for value in near:
            low = max(low, value)
    for half in (half_a, half_b):
        for value in half:
            high = max(high, value)
    if _is_enough(a, b, half_a, half_b, low):
        return low
    radii = _radii(a, b, half_a, half_b, low, high)
    first, last = 0, len(radii) - 1  # the largest is that of the longest life, which is always enough
    while first < last:
        middle = (first + last) // 2
        if _is_enough(a, b, half_a, half_b, radii[middle]):
            last = middle
        else:
            first = middle + 1
    return radii[first]


@kernel
def _radii(
    a: np.ndarray, b: np.ndarray, half_a: np.ndarray, half_b: np.ndarray, low: float, high: float
) -> np.ndarray:
    """What the distance may be if it is above ``low``, ascending."""
    n = 0
    for i in range(len(a)):
        for j in range(len(b)):
            distance = max(abs(a[i, 0] - b[j, 0]), abs(a[i, 1] - b[j, 1]))
            n += low < distance <= high and (half_a[i] > low or half_b[j] > low)
    found = np.empty(n + len(a) + len(b) + 1)
    n = 0
    for i in range(len(a)):
        for j in range(len(b)):
            distance = max(abs(a[i, 0] - b[j, 0]), abs(a[i, 1] - b[j, 1]))
            if low < distance <= high and (half_a[i] > low or half_b[j] > low):
                found[n] = distance
                n += 1
    for half in (half_a, half_b):
        for value in half:
            if value > low:
                found[n] = value
                n += 1
    found[n] = high
    return np.sort(found[: n + 1])


@kernel
def _is_enough(a: np.ndarray, b: np.ndarray, half_a: np.ndarray, half_b: np.ndarray, radius: float) -> bool:
    return _covers(a, b, half_a, radius) and _covers(b, a, half_b, radius)


@kernel
def _covers(a: np.ndarray, b: np.ndarray, half: np.ndarray, radius: float) -> bool:
    """Whether each of ``a`` that is further from the diagonal than the radius can have one of its own within it."""
    taken_by = np.full(len(b), -1)
    reached_from, stamp = np.empty(len(b), np.int64), np.full(len(b), -1)
    queue, matched = np.empty(len(a), np.int64), np.full(len(a), -1)
    for start in range(len(a)):
        if half[start] <= radius:
            continue
        queue[0], n, head, free = start, 1, 0, -1
        while head < n and free < 0:
            i = queue[head]
            head += 1
            for j in range(len(b)):
                if stamp[j] == start or max(abs(a[i, 0] - b[j, 0]), abs(a[i, 1] - b[j, 1])) > radius:
                    continue
                stamp[j] = start
                reached_from[j] = i
                if taken_by[j] < 0:
                    free = j
                    break
                queue[n] = taken_by[j]
                n += 1
        if free < 0:
            return False
        while free >= 0:
            i = reached_from[free]
            taken_by[free] = i
            free, matched[i] = matched[i], free
    return True


@kernel
def wasserstein(a: np.ndarray, b: np.ndarray, order: float) -> float:
    """The Wasserstein distance of two diagrams, ``[K, 2]`` and ``[M, 2]``, whose features all die."""
    if len(a) > len(b):
        a, b = b, a
    of_a, of_b = _alone(a, order), _alone(b, order)
    columns = assigned(a, b, of_a, of_b, order)
    total, is_alone = 0.0, np.ones(len(b), np.bool_)
    for i in range(len(a)):
        j = columns[i]
        if j < 0:
            total += of_a[i]
        else:
            total += np.hypot(a[i, 0] - b[j, 0], a[i, 1] - b[j, 1]) ** order
            is_alone[j] = False
    for j in range(len(b)):
        if is_alone[j]:
            total += of_b[j]
    return total ** (1 / order)


@kernel
def _alone(diagram: np.ndarray, order: float) -> np.ndarray:
    """What each feature costs that is matched with the diagonal."""
    found = np.empty(len(diagram))
    for i in range(len(diagram)):
        found[i] = ((diagram[i, 1] - diagram[i, 0]) / np.sqrt(2)) ** order
    return found


@kernel
def assigned(a: np.ndarray, b: np.ndarray, of_a: np.ndarray, of_b: np.ndarray, order: float) -> np.ndarray:
    """Of each feature of ``a``, ``[K, 2]``, the one of ``b``, ``[M, 2]``, that it is matched with, -1 for none.

    Whatever is matched saves what both would cost alone, ``of_a`` and ``of_b``, and costs the power ``order`` of their
    distance; all together save the most. By shortest augmenting paths over those pairs that save something (Jonker &
    Volgenant 1987).
    """
    ends, columns, costs = _saving(a, b, of_a, of_b, order)
    n, m = len(a), len(b)
    row_of, column_of = np.full(m, -1), np.full(n, -1)
    u, v = np.zeros(n), np.zeros(m)  # what rows and columns pay, so that no pair is cheaper than both
    far, come_from = np.full(m, np.inf), np.empty(m, np.int64)
    waiting, done = np.empty(m, np.int64), np.empty(m, np.int64)
    for start in range(n):
        least = 0.0
        for k in range(ends[start], ends[start + 1]):
            least = min(least, costs[k] - v[columns[k]])
        u[start] = least
        n_waiting, n_done, i, gone = 0, 0, start, 0.0
        alone, least_alone, free = -1, np.inf, -1
        limit = np.inf  # no path longer than this is taken: to a row that stays alone, or a free column
        while True:
            if gone - u[i] < least_alone:  # it may stay alone, which saves nothing
                least_alone, alone = gone - u[i], i
                limit = min(limit, least_alone)
            base = gone - u[i]
            for k in range(ends[i], ends[i + 1]):
                j = columns[k]
                way = base + costs[k] - v[j]
                # Those that are done are no further than `gone`, whatever rounding says.
                if way < far[j] and way < limit and far[j] > gone:
                    if far[j] == np.inf:
                        waiting[n_waiting] = j
                        n_waiting += 1
                    far[j], come_from[j] = way, i
                    if row_of[j] < 0:
                        limit = way
            nearest, place = np.inf, -1
            for t in range(n_waiting):
                if far[waiting[t]] < nearest:
                    nearest, place = far[waiting[t]], t
            if place < 0 or nearest >= least_alone:
                break
            j = waiting[place]
            n_waiting -= 1
            waiting[place] = waiting[n_waiting]
            done[n_done] = j
            n_done += 1
            gone = nearest
            if row_of[j] < 0:
                free = j
                break
            i = row_of[j]
        end = gone if free >= 0 else least_alone
        u[start] += end
        for t in range(n_done):
            j = done[t]
            v[j] += far[j] - end
            if row_of[j] >= 0:
                u[row_of[j]] += end - far[j]
            far[j] = np.inf
        for t in range(n_waiting):
            far[waiting[t]] = np.inf
        if free < 0:
            free, column_of[alone] = column_of[alone], -1
        while free >= 0:
            i = come_from[free]
            row_of[free] = i
            free, column_of[i] = column_of[i], free
    return column_of


@kernel
def _saving(a: np.ndarray, b: np.ndarray, of_a: np.ndarray, of_b: np.ndarray, order: float):
    """Pairs that are better matched than alone, row by row: where each ends, their columns, what they cost less."""
    ends, size = np.zeros(len(a) + 1, np.int64), 16 * (len(a) + len(b))
    columns, costs = np.empty(size, np.int64), np.empty(size)
    n = 0
    for i in range(len(a)):
        if n + len(b) > size:
            size = 2 * size + len(b)
            columns, costs = _longer(columns, size), _longer(costs, size)
        birth, death, own = a[i, 0], a[i, 1], of_a[i]
        for j in range(len(b)):
            squared = (birth - b[j, 0]) ** 2 + (death - b[j, 1]) ** 2
            cost = (squared if order == 2 else squared ** (order / 2)) - own - of_b[j]
            columns[n], costs[n] = j, cost
            n += cost < 0
        ends[i + 1] = n
    return ends, columns, costs


@kernel
def _longer(array: np.ndarray, size: int) -> np.ndarray:
    found = np.empty(size, array.dtype)
    found[: len(array)] = array
    return found


@kernel
def step_distance(
    ours: np.ndarray, our_steps: np.ndarray, theirs: np.ndarray, their_steps: np.ndarray
) -> float:
    """The L2 distance of two step functions: places, ascending, and by how much the function rises at each."""
    squared, i, j, last, difference = 0.0, 0, 0, 0.0, 0.0
    while i < len(ours) or j < len(theirs):
        if j == len(theirs) or (i < len(ours) and ours[i] <= theirs[j]):
            place, step = ours[i], our_steps[i]
            i += 1
        else:
            place, step = theirs[j], -their_steps[j]
            j += 1
        if difference != 0:
            squared += difference**2 * (place - last)
        difference += step
        last = place
    return np.sqrt(squared)


@kernel
def quantile_distance(
    ours: np.ndarray, our_shares: np.ndarray, theirs: np.ndarray, their_shares: np.ndarray
) -> float:
    """Mean squared difference of two samples, quantile by quantile: ascending values, the share up to each."""
    found, i, j, last = 0.0, 0, 0, 0.0
    while i < len(ours) and j < len(theirs):
        share = min(our_shares[i], their_shares[j])
        found += (share - last) * (ours[i] - theirs[j]) ** 2
        last = share
        i, j = i + (our_shares[i] == share), j + (their_shares[j] == share)
    return found


@kernel
def silhouettes(named: np.ndarray, sizes: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """The mean silhouette of R runs by their distances, ``[R, R]``, under each of P namings of their groups.

    Args:
        named: The number of each run's group, ``[P, R]``.
        sizes: Of the groups, the same in all namings, ``[G]``.
        distances: Between the runs.
    """
    found = np.zeros(len(named))
    sums = np.empty(len(sizes))
    for p in range(len(named)):
        groups = named[p]
        for i in range(len(groups)):
            own = groups[i]
            if sizes[own] < 2:
                continue
            sums[:] = 0.0
            for j in range(len(groups)):
                sums[groups[j]] += distances[i, j]
            inside, outside = sums[own] / (sizes[own] - 1), np.inf
            for group in range(len(sizes)):
                if group != own:
                    outside = min(outside, sums[group] / sizes[group])
            larger = max(inside, outside)
            if larger > 0:
                found[p] += (outside - inside) / larger
        found[p] /= len(groups)
    return found
