// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * What outlives the right that it was got by, and is not asked about again: pages of a file in a pipe or a socket,
 * watches, descriptors that came over a connection. It cannot be taken back, so it is noted, by the file whose rule
 * gave it, and whoever takes that right away ends the agent. As for mappings (may_map), the note comes before the
 * agent's list is looked at once more: who takes the right away puts the new list in place before it looks for notes.
 */

/* Numbers of system calls of this processor's 64-bit table. */
#define CALL_SENDFILE 40
#define CALL_SPLICE 275
/* In thread_info.status: a call of the 32-bit table, which has other numbers. */
#define TS_COMPAT 2

static __always_inline bool note_kept(struct KernelAgent *a, __u32 by, __u32 kind)
{
	struct KeptKey k = { .aid = a->aid, .file = by == BY_NONE ? KEPT_BY_SEVERAL : by, .kind = kind };
	__u64 one = 1;

	if (bpf_map_lookup_elem(&kept, &k))
		return true;
	if (bpf_map_update_elem(&kept, &k, &one, BPF_ANY))
		return false;
	__sync_fetch_and_or(&a->flags, FLAG_KEEPS);
	return true;
}

#define KEEP_TRIES 4

/* Whether the agent may have something by its rights on a path that stays when they go. */
static __noinline bool may_keep(struct KernelAgent *a, const struct path *p, __u32 all, __u32 kind)
{
	int i;

	for (i = 0; i < KEEP_TRIES; i++) {
		__u64 list = list_now(a);
		struct found found = {};

		walk(list, &found, as(dentry, p->dentry), mount_of(p->mnt), BOTH(all, 0));
		if (!enough(rights_of(found.cover), all, 0) || !note_kept(a, found.by, kind))
			return false;
		if (list_now(a) == list)
			return true;
	}
	return false;
}

/* As may_keep(), of a file that was got by a use. */
static __noinline bool may_keep_used(struct KernelAgent *a, struct file *f, __u32 all, __u32 kind)
{
	int i;

	for (i = 0; i < KEEP_TRIES; i++) {
		__u64 list = list_now(a);

		if (!used_on(a, f, 0, all, 0) || !note_kept(a, used_by(f), kind))
			return false;
		if (list_now(a) == list)
			return true;
	}
	return false;
}

/* Remembers by what the first file of this call was decided; 0 ends the errand. */
static __always_inline bool set_errand(struct KernelAgent *a, __u32 by, __u32 kind)
{
	struct errand *e = errand(by ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);

	if (e) {
		e->list = list_now(a);
		e->by = by;
		e->kind = kind;
	}
	return e || !by;
}

/* The second file of the call is something that keeps. Nothing is on its way where nobody noted an errand. */
static __always_inline bool ends_errand(struct KernelAgent *a, __u32 kind)
{
	struct errand *e = errand(0);
	__u32 by = e && e->kind == kind ? e->by : 0;

	return !by || (note_kept(a, by, kind) && list_now(a) == e->list);
}

/* Pages of a file are about to be put where they stay. io_uring says so before, for all that the agent reads. */
static __always_inline long moving_call(struct KernelAgent *a)
{
	struct task_struct *me = bpf_get_current_task_btf();
	long number;

	if (a->flags & FLAG_SPLICES)
		return CALL_SPLICE;
	if (unlikely(me->thread_info.status & TS_COMPAT))
		return CALL_SPLICE;
	number = ((struct pt_regs *)bpf_task_pt_regs(me))->orig_ax;
	return number == CALL_SPLICE || number == CALL_SENDFILE ? number : 0;
}

/* What sendfile() writes to is a file: it copies. Another thread may put something else there meanwhile. */
static __noinline bool seems_to_copy(void)
{
	struct task_struct *me = bpf_get_current_task_btf();
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(me);
	struct fdtable *table = BPF_CORE_READ(me, files, fdt);
	__u64 number = (__u32)regs->di;
	struct file *to = NULL, **all;

	if (!table || number >= BPF_CORE_READ(table, max_fds))
		return false;
	all = BPF_CORE_READ(table, fd);
	if (bpf_probe_read_kernel(&to, sizeof(to), all + number) || !to)
		return false;
	return (BPF_CORE_READ(to, f_inode, i_mode) & S_IFMT) == S_IFREG;
}

/* A file is read by such a call. A copy keeps nothing: that it is none is found out where pages would be kept. */
static __noinline bool may_move(struct KernelAgent *a, struct file *f, long call)
{
	struct found found = {};

	if (call == CALL_SPLICE || !seems_to_copy())
		return set_errand(a, 0, 0) && (may_keep(a, &f->f_path, RIGHT_READ, KEPT_PAGES) ||
					       may_keep_used(a, f, RIGHT_READ, KEPT_PAGES));
	walk(list_now(a), &found, as(dentry, f->f_path.dentry), mount_of(f->f_path.mnt), RIGHT_READ);
	if (!enough(rights_of(found.cover), RIGHT_READ, 0)) {
		if (!used_on(a, f, 0, RIGHT_READ, 0))
			return false;
		found.by = used_by(f);
	}
	return set_errand(a, found.by, KEPT_PAGES);
}

/*
 * The kernel leaves a program of this kind out where the same one was preempted on that processor (moves.h). What it
 * notes may be noted twice, so there are two of each: both are left out only where both were preempted.
 */

/* sendfile() to a pipe, which is not asked about; only who swapped it for the file that was there has an errand. */
SEC("fentry/splice_file_to_pipe")
int BPF_PROG(file_to_pipe)
{
	struct KernelAgent *a = current_agent();

	if (a && !ends_errand(a, KEPT_PAGES))
		bpf_send_signal(SIGKILL);
	return 0;
}

SEC("fentry/splice_file_to_pipe")
int BPF_PROG(file_to_pipe_again)
{
	struct KernelAgent *a = current_agent();

	if (a && !ends_errand(a, KEPT_PAGES))
		bpf_send_signal(SIGKILL);
	return 0;
}

static __always_inline void flag_agent(__u32 flag)
{
	struct KernelAgent *a = current_agent();

	if (a && !(a->flags & flag))
		__sync_fetch_and_or(&a->flags, flag);
}

SEC("fentry/io_splice")
int BPF_PROG(uring_splices, void *request, unsigned int flags)
{
	flag_agent(FLAG_SPLICES);
	return 0;
}

SEC("fentry/io_splice")
int BPF_PROG(uring_splices_again, void *request, unsigned int flags)
{
	flag_agent(FLAG_SPLICES);
	return 0;
}

/* Pages of memory into a pipe, by either table of calls. Sending without a copy is seen in socket_sendmsg. */
SEC("fentry/__x64_sys_vmsplice")
int BPF_PROG(memory_spliced)
{
	flag_agent(FLAG_PINS);
	return 0;
}

SEC("fentry/__x64_sys_vmsplice")
int BPF_PROG(memory_spliced_again)
{
	flag_agent(FLAG_PINS);
	return 0;
}

SEC("fentry/__ia32_sys_vmsplice")
int BPF_PROG(memory_spliced_32)
{
	flag_agent(FLAG_PINS);
	return 0;
}

SEC("fentry/__ia32_sys_vmsplice")
int BPF_PROG(memory_spliced_32_again)
{
	flag_agent(FLAG_PINS);
	return 0;
}

/* Buffers that are registered with io_uring. */
SEC("fentry/io_pin_pages")
int BPF_PROG(pages_pinned)
{
	flag_agent(FLAG_PINS);
	return 0;
}

SEC("fentry/io_pin_pages")
int BPF_PROG(pages_pinned_again)
{
	flag_agent(FLAG_PINS);
	return 0;
}
