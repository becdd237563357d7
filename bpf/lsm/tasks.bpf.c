// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Other processes: signals, tracing, scheduling. */

/* `from` made `to`, directly or through others. A global function, verified once. */
__noinline int is_descendant(__u64 to, __u64 from)
{
	int i;

	bpf_for(i, 0, TREE_DEPTH) {
		__u64 *parent = bpf_map_lookup_elem(&parents, &to);

		if (!parent)
			return 0;
		to = *parent;
		if (to == from)
			return 1;
	}
	return 0;
}

SEC("lsm/task_kill")
int BPF_PROG(task_kill, struct task_struct *p, struct kernel_siginfo *info, int sig,
	     const struct cred *cred)
{
	struct KernelAgent *a = current_agent(), *b;

	if (!a)
		return outsider_signals(p, sig);
	b = agent_of(p);
	if (unlikely(quarantined(a)))
		return report_plain(a, FORBIDDEN(QUARANTINE, sig), b ? b->aid : 0);
	if (b && b->aid == a->aid) {
		if (sig == SIGCONT && (a->flags & FLAG_THROTTLED))
			return report_plain(a, FORBIDDEN(TASK_KILL, sig), b->aid);
		return 0;
	}
	if (b && plain_cover(a->list, PLAIN_SIGNAL) && is_descendant(b->aid, a->aid))
		return report_plain(a, USE(TASK_KILL, sig), b->aid) ? -EAGAIN : 0;
	return report_plain(a, FORBIDDEN(TASK_KILL, sig), b ? b->aid : 0);
}

/*
 * A signal that the kernel sends because somebody made a process the owner of a file (F_SETOWN, FIOSETOWN, dnotify):
 * task_kill is not asked, and who acts now is whoever made the file ready.
 */
SEC("lsm/file_send_sigiotask")
int BPF_PROG(file_send_sigiotask, struct task_struct *p, struct fown_struct *owner, int sig)
{
	struct KernelAgent *me = current_agent(), *b;

	if (unlikely(policy.sealed) && is_daemon(p))
		return me ? report_plain(me, FORBIDDEN(FILE_SIGIO, sig), 0) :
			    refuse_outsider(BROKEN_SEAL(FILE_SIGIO, sig));
	b = sig == SIGCONT ? agent_of(p) : NULL;
	if (!b || !((b->flags & FLAG_THROTTLED) || policy.halted))
		return 0;
	/* Nobody but the daemon lets it go on. */
	if (me && me->aid == b->aid)
		return report_plain(me, FORBIDDEN(FILE_SIGIO, sig), b->aid);
	return refuse_outsider(BROKEN_SEAL(FILE_SIGIO, sig));
}

/* Who traces writes to any page, code as well. */
static __always_inline bool may_be_written(const struct KernelAgent *a, unsigned int mode)
{
	return !(a->flags & FLAG_STRICT) || !(mode & PTRACE_MODE_ATTACH);
}

SEC("lsm/ptrace_access_check")
int BPF_PROG(ptrace_access_check, struct task_struct *child, unsigned int mode)
{
	struct KernelAgent *a = current_agent(), *b;

	if (!a)
		return outsider_traces(child, mode);
	b = agent_of(child);
	if (b && b->aid == a->aid && !(b->flags & FLAG_SETUP))
		return may_be_written(a, mode) ? 0 : report_plain(a, FORBIDDEN(CODE_MEMORY, mode), 0);
	return report_plain(a, FORBIDDEN(PTRACE_ACCESS, mode), b ? b->aid : 0);
}

SEC("lsm/ptrace_traceme")
int BPF_PROG(ptrace_traceme, struct task_struct *parent)
{
	struct KernelAgent *a = current_agent(), *b;

	if (!a)
		return 0;
	b = agent_of(parent);
	if (b && b->aid == a->aid)
		return may_be_written(a, PTRACE_MODE_ATTACH) ? 0 :
							     report_plain(a, FORBIDDEN(CODE_MEMORY, 0), 0);
	return report_plain(a, FORBIDDEN(PTRACE_TRACEME, 0), b ? b->aid : 0);
}

/* Priorities, scheduling classes, memory placement, limits of a task. */
static __always_inline int controls(struct task_struct *p, __u32 kind)
{
	struct KernelAgent *a = current_agent(), *b;

	if (!a)
		return outsider_controls(p, kind);
	b = agent_of(p);
	if (b && b->aid == a->aid)
		return 0;
	return report_plain(a, FORBIDDEN(TASK_CONTROL, kind), b ? b->aid : 0);
}

SEC("lsm/task_setscheduler")
int BPF_PROG(task_setscheduler, struct task_struct *p)
{
	return controls(p, 1);
}

SEC("lsm/task_setnice")
int BPF_PROG(task_setnice, struct task_struct *p, int nice)
{
	return controls(p, 2);
}

SEC("lsm/task_setioprio")
int BPF_PROG(task_setioprio, struct task_struct *p, int ioprio)
{
	return controls(p, 3);
}

SEC("lsm/task_movememory")
int BPF_PROG(task_movememory, struct task_struct *p)
{
	return controls(p, 4);
}

/* A limit on the daemon's CPU time would end it. */
SEC("lsm/task_setrlimit")
int BPF_PROG(task_setrlimit, struct task_struct *p, unsigned int resource, struct rlimit *limit)
{
	return controls(p, 5);
}
