/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Renames that are under way. What was decided before one holds no longer when it is done, and the program behind it
 * (`renamed`) says so; but the kernel leaves such a program out where the same one was preempted on that processor
 * (`recursion_misses`). A hook of a security module is never left out: each says before that a rename begins, and
 * nothing that was remembered counts until it is known that it has ended.
 */
#pragma once

/* The file systems of those that a task is in: of an overlay, and of what lies beneath it. */
#define MOVES_MAX 2
struct moving {
	__u64 file_systems[MOVES_MAX];
};
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct moving);
} moving SEC(".maps");

static __always_inline struct moving *moves_of(struct task_struct *t, __u64 flags)
{
	return bpf_task_storage_get(&moving, t, NULL, flags);
}

static __always_inline void move_begins(struct super_block *sb)
{
	struct moving *m = moves_of(bpf_get_current_task_btf(), BPF_LOCAL_STORAGE_GET_F_CREATE);
	__u64 where = (__u64)sb;
	int i;

	if (!m) {
		/* From here on nothing is remembered any more: slow, and true. */
		__sync_fetch_and_add(&policy.moving, 1);
		return;
	}
	for (i = 0; i < MOVES_MAX; i++) {
		if (m->file_systems[i] == where) {
			/* Both halves of an exchange, or one before that ended unheard (who asks for it has no other calls). */
			void_verdicts();
			return;
		}
	}
	for (i = 0; i < MOVES_MAX; i++) {
		if (!m->file_systems[i]) {
			m->file_systems[i] = where;
			break;
		}
	}
	/* One that has no place is taken for one that goes on. */
	__sync_fetch_and_add(&policy.moving, 1);
}

/* What rests on it is void by now. */
static __always_inline void move_ends(struct super_block *sb)
{
	struct moving *m = moves_of(bpf_get_current_task_btf(), 0);
	__u64 where = (__u64)sb;
	int i;

	if (!m)
		return;
	for (i = 0; i < MOVES_MAX; i++) {
		if (m->file_systems[i] == where) {
			m->file_systems[i] = 0;
			__sync_fetch_and_add(&policy.moving, -1);
		}
	}
}

/*
 * The task is in no rename: one that has begun has ended, and nobody said so. Not asked within one: an overlay opens
 * files while it renames.
 */
static __noinline int settle_moves(struct task_struct *t, bool within)
{
	struct moving *m;
	int i;

	m = moves_of(t, 0);
	if (!m)
		return 0;
	for (i = 0; within && i < MOVES_MAX; i++) {
		struct super_block *sb = (void *)m->file_systems[i];

		if (sb && as(super_block, sb)->s_magic == OVERLAYFS_MAGIC)
			return 0;
	}
	for (i = 0; i < MOVES_MAX; i++) {
		if (m->file_systems[i]) {
			m->file_systems[i] = 0;
			void_verdicts();
			__sync_fetch_and_add(&policy.moving, -1);
		}
	}
	return 0;
}

static __always_inline void settle_own_moves(bool within)
{
	if (unlikely(policy.moving))
		settle_moves(bpf_get_current_task_btf(), within);
}
