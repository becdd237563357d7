/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Rules that may be used so often and no more. Each has a counter, whichever sets it is in by now. Such a rule gives
 * nothing by itself: where no other rule allows something, a use is taken from it, and what was got by that is noted
 * and may be used on while the rule is held, though no use may be left.
 */
#pragma once

/* Beside the rights that are wanted: by counted rules, too; and of these only by such as may still be used. */
#define WANT_COUNTED (1u << 28)
#define WANT_LEFT (1u << 29)

static __always_inline struct Counted *counted_rule(__u32 set, __u32 rule)
{
	struct CountedKey k = { .set = set, .rule = rule };

	return bpf_map_lookup_elem(&counted, &k);
}

static __always_inline struct UseCounter *counter_of(__u32 number)
{
	number &= COUNTERS - 1;
	return bpf_map_lookup_elem(&counters, &number);
}

/* Whether a rule's grant counts for what is asked; one that is not counted always does. */
static __always_inline bool counts_for(__u32 set, const struct Grant *g, __u32 want)
{
	struct UseCounter *n;
	struct Counted *c;

	if (!unlikely(g->rights & RIGHT_COUNTED))
		return true;
	if (!(want & WANT_LEFT))
		return want & WANT_COUNTED;
	c = counted_rule(set, g->rule);
	n = c ? counter_of(c->counter) : NULL;
	return n && n->left > 0;
}

/* Takes a use. Whoever asks for one that is not there makes the count too small for a moment, never too large. */
static __always_inline bool take_use(struct UseCounter *n)
{
	if (__sync_fetch_and_add(&n->left, -1) > 0)
		return true;
	__sync_fetch_and_add(&n->left, 1);
	return false;
}

/* What was allowed did not happen. */
static __always_inline void give_back(const struct Taken *t)
{
	struct UseCounter *n = counter_of(t->counter);

	if (t->id && n && n->id == t->id)
		__sync_fetch_and_add(&n->left, 1);
}

/* A use of the rule that `ruling` names (report.h), for all that it gives. A global function, verified once. */
__noinline int take_ruled(__u64 ruling, struct Taken *t __arg_nonnull)
{
	struct Counted *c = counted_rule(ruling >> 16, ruling & 0xffff);
	struct UseCounter *n = c ? counter_of(c->counter) : NULL;

	if (!n || !n->id || !take_use(n))
		return 0;
	t->id = n->id;
	t->counter = c->counter;
	t->rule = ruling & 0xffff;
	t->rights = c->rights;
	return 1;
}

/* One of the list's sets has this rule with this counter still. A global function, verified once. */
__noinline int list_counts(__u64 list, __u32 rule, __u32 counter)
{
	struct RightsList *l = bpf_map_lookup_elem(&lists, &list);
	int i;

	if (!l)
		return 0;
	bpf_for(i, 0, LIST_SETS) {
		struct Counted *c;

		if (i >= l->count)
			break;
		c = counted_rule(l->sets[i], rule);
		if (c && c->counter == counter &&
		    (!c->expires_ns || bpf_ktime_get_boot_ns() < c->expires_ns))
			return 1;
	}
	return 0;
}

/* What was got by a use may be used on. */
static __always_inline bool still_counts(__u64 list, const struct Taken *t)
{
	struct UseCounter *n;

	if (!t->id)
		return false;
	n = counter_of(t->counter);
	return n && n->id == t->id && list_counts(list, t->rule, t->counter);
}
