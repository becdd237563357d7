/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Uses of counted rules on files: where a check has found that no other rule allows it, a use is taken for what is
 * missing, and what was opened by that is noted by its address until it goes.
 */
#pragma once

#define RIGHT_BITS 8

/* One of these uses is for a right on the file `d`; whose rule it is, or 0. */
static __always_inline __u64 take_right(__u64 list, struct dentry *d, struct mount *m, __u32 bit, struct Taken *t)
{
	struct found found = {};
	__u64 by;

	walk(list, &found, d, m, bit | WANT_COUNTED | WANT_LEFT);
	by = ruling_of(found.cover);
	if (!(rights_of(found.cover) & bit) || !take_ruled(by, t))
		return 0;
	t->by = found.by;
	return by;
}

/*
 * Uses for all rights in bits 0-7 of `wanted` and for one of those in bits 8-15, on the file `d`: all that it takes, or
 * none. The rule of the first, as report.h takes it; 0 where they are not there. A global function, verified once.
 */
__noinline __u64 take_rights(__u64 list, struct dentry *d __arg_untrusted, struct mount *m __arg_untrusted,
			     __u32 wanted, struct TakenFile *out __arg_nonnull)
{
	__u32 all = wanted & 0xff, any = wanted >> 8 & 0xff;
	__u64 first = 0, by;
	int i;

	out->uses[0].id = out->uses[1].id = 0;
	bpf_for(i, 0, RIGHT_BITS) {
		__u32 bit = 1u << i;

		if (!(all & bit))
			continue;
		if (!first) {
			by = first = take_right(list, d, m, bit, &out->uses[0]);
			all &= ~out->uses[0].rights;
		} else if (!out->uses[1].id) {
			by = take_right(list, d, m, bit, &out->uses[1]);
			all &= ~out->uses[1].rights;
		} else {
			by = 0;
		}
		if (!by)
			goto none;
	}
	/* What one use is for may be all of it. */
	if (!any || (first && (any & out->uses[0].rights)))
		return first;
	if (out->uses[1].id) {
		if (any & out->uses[1].rights)
			return first;
		goto none;
	}
	bpf_for(i, 0, RIGHT_BITS) {
		/* A program is started by the right to start it, if there is one, and not by that to read it. */
		__u32 bit = 1u << (RIGHT_BITS - 1 - i);

		if (!(any & bit))
			continue;
		by = first ? take_right(list, d, m, bit, &out->uses[1]) :
			     take_right(list, d, m, bit, &out->uses[0]);
		if (by)
			return first ?: by;
	}
none:
	give_back(&out->uses[0]);
	give_back(&out->uses[1]);
	out->uses[0].id = out->uses[1].id = 0;
	return 0;
}

/* What is missing of what is wanted, as take_rights() takes it. */
static __always_inline __u32 missing(__u64 cover, __u32 all, __u32 any)
{
	__u32 have = rights_of(cover);

	return (all & ~have & 0xff) | (any & have ? 0 : (any & 0xff) << 8);
}

/* Nobody looks for counted rules before there was one. */
static __always_inline bool any_counted(void)
{
	return unlikely(policy.counted);
}

/* What this task is about, over several hooks of one call. */
static __always_inline struct errand *errand(__u64 flags)
{
	return bpf_task_storage_get(&errands, bpf_get_current_task_btf(), NULL, flags);
}

/* What follows in the same call is part of this use of `what`: the open of a file that was made by it. */
static __always_inline bool expect_use(const void *what, const struct Taken *use, __u64 by)
{
	struct errand *e = errand(BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!e)
		return false;
	e->made = address_of(what);
	e->use_ruling = by;
	e->use = *use;
	return true;
}

/* The use that this is part of, or NULL. */
static __always_inline struct errand *expected_use(const void *what)
{
	struct errand *e = any_counted() ? errand(0) : NULL;

	return e && e->use.id && e->made == address_of(what) ? e : NULL;
}

/* `wanted` as take_rights() takes it. */
static __always_inline bool gives(const struct Taken *t, __u32 wanted)
{
	return enough(t->rights, wanted & 0xff, wanted >> 8 & 0xff);
}

/* Counted rules cover the file still, where it lies now; `wanted` as take_rights() takes it. */
static __always_inline bool reaches(struct KernelAgent *a, struct file *f, __u32 wanted)
{
	return enough(rights_of(cover_to_see(a, &f->f_path, wanted & 0xff, wanted >> 8)), wanted & 0xff, wanted >> 8);
}

/* What an entry of `taken` begins with: made in place, for the stack is small. */
static const struct TakenFile no_uses;

/* A use that could not be recorded did not happen. */
static __noinline void not_opened(struct file *f)
{
	__u64 file = address_of(f);
	struct TakenFile *t = bpf_map_lookup_elem(&taken, &file);

	if (!t)
		return;
	give_back(&t->uses[0]);
	give_back(&t->uses[1]);
	bpf_map_delete_elem(&taken, &file);
}

/*
 * A file that was made by this open: that was its use (path_mknod). The name may be another's by now that has the same
 * address, so the rules are asked about this one, too.
 */
static __noinline __u64 open_what_was_made(struct KernelAgent *a, struct file *f, __u32 wanted, struct TakenFile *t)
{
	struct errand *e = f->f_flags & O_CREAT_BIT ? expected_use(f->f_path.dentry) : NULL;

	if (!e || !still_counts(list_now(a), &e->use) || !gives(&e->use, wanted) || !reaches(a, f, wanted))
		return 0;
	t->uses[0] = e->use;
	e->use.id = 0;
	return e->use_ruling;
}

/* Opens a file by such uses: the rule of the first, or 0. */
static __noinline __u64 open_by_use(struct KernelAgent *a, struct file *f, __u32 wanted)
{
	__u64 file = address_of(f), by;
	struct TakenFile *t;

	if (!any_counted() || quarantined(a))
		return 0;
	if (bpf_map_update_elem(&taken, &file, &no_uses, BPF_ANY))
		return 0;
	t = bpf_map_lookup_elem(&taken, &file);
	if (!t)
		return 0;
	by = open_what_was_made(a, f, wanted, t) ?:
	     take_rights(list_now(a), as(dentry, f->f_path.dentry), mount_of(f->f_path.mnt), wanted, t);
	if (!by)
		bpf_map_delete_elem(&taken, &file);
	return by;
}

/* By which uses an open file was got, or NULL. */
static __always_inline struct TakenFile *taken_with(struct file *f)
{
	__u64 file = address_of(f);

	return any_counted() ? bpf_map_lookup_elem(&taken, &file) : NULL;
}

/* What an agent may still do with an open file by the uses that it was got by, beside what covers it. */
static __noinline bool used_on(struct KernelAgent *a, struct file *f, __u64 cover, __u32 all, __u32 any)
{
	struct TakenFile *t = taken_with(f);
	__u32 have = rights_of(cover);
	__u64 list = list_now(a);

	if (!t)
		return false;
	if (still_counts(list, &t->uses[0]))
		have |= t->uses[0].rights;
	if (still_counts(list, &t->uses[1]))
		have |= t->uses[1].rights;
	/* As without a count: what is moved out of what a rule covers is out of reach. */
	return enough(have, all, any) && reaches(a, f, BOTH(all, any));
}

/* The file whose rule it was got by, for who keeps something of it. */
static __always_inline __u32 used_by(struct file *f)
{
	struct TakenFile *t = taken_with(f);

	return !t || t->uses[1].id ? BY_SEVERAL : t->uses[0].by;
}

/* A use by name: of a file that is made, removed, renamed, cut or altered. The rule of the first, or 0. */
static __always_inline __u64 change_by_use(struct KernelAgent *a, struct dentry *d, struct mount *m, __u32 wanted,
				      struct TakenFile *t)
{
	if (!any_counted() || quarantined(a))
		return 0;
	return take_rights(list_now(a), as(dentry, d), m, wanted, t);
}

/* What a refusal would have been, as a use. */
static __always_inline __u64 as_use(__u64 what)
{
	return (what & ~(0xffull | AS_EPERM | AS_EXDEV)) | EVENT_USE;
}

/* A use of something that was recorded, or not: then it did not happen. */
static __always_inline int recorded(struct TakenFile *t, int verdict)
{
	if (verdict) {
		give_back(&t->uses[0]);
		give_back(&t->uses[1]);
	}
	return verdict;
}
