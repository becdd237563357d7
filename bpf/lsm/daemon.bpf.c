// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The daemon may end; the policy stays. What is told here: when it ended, who may follow it, and that
 * agents do not run for long without one.
 */

extern int bpf_iter_task_new(struct bpf_iter_task *it, struct task_struct *task,
			     unsigned int flags) __ksym;
extern struct task_struct *bpf_iter_task_next(struct bpf_iter_task *it) __ksym;
extern void bpf_iter_task_destroy(struct bpf_iter_task *it) __ksym;
extern struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym;
struct bpf_map {};
extern int bpf_task_work_schedule_signal(struct task_struct *task, struct bpf_task_work *work,
					 void *map__map,
					 int (*callback)(struct bpf_map *, void *, void *)) __ksym;

/* Between two looks at whether something of an agent's runs that should not. */
#define AGAIN_NS 1000000000ull

/* Parts of a program's arguments and environment that are looked through: a string, or a piece of a long one. */
#define PARTS_MAX 1024
/* Longest of them; a power of two. */
#define PART_MAX 512

/* Runs in the process that it is about, where it is next about to do something of its own. */
static int stop_itself(struct bpf_map *map, void *key, void *value)
{
	if (policy.halted)
		bpf_send_signal_task(bpf_get_current_task_btf(), SIGSTOP, PIDTYPE_TGID, 0);
	return 0;
}

/*
 * A signal can be sent from a process only, and the timer may find the processor idle: so each process
 * is told to stop itself, by one of its threads.
 */
static __always_inline void stop_process(struct task_struct *t)
{
	struct stop nothing = {}, *s;
	__u32 tgid = t->tgid;

	bpf_map_update_elem(&stops, &tgid, &nothing, BPF_NOEXIST);
	s = bpf_map_lookup_elem(&stops, &tgid);
	if (!s)
		return;
	t = bpf_task_acquire(t);
	if (!t)
		return;
	/* Refused while another thread has it still to do. */
	bpf_task_work_schedule_signal(t, &s->work, &stops, stop_itself);
	bpf_task_release(t);
}

static __always_inline void stop_agents(void)
{
	struct bpf_iter_task it;
	struct task_struct *t;

	bpf_iter_task_new(&it, NULL, BPF_TASK_ITER_ALL_THREADS);
	while ((t = bpf_iter_task_next(&it))) {
		if (agent_of(t) && !t->exit_state && !(t->signal->flags & SIGNAL_STOP_STOPPED))
			stop_process(t);
	}
	bpf_iter_task_destroy(&it);
}

/* Again and again: a process that was being made is there a moment later. */
static int halt_agents(void *map, __u32 *key, struct watch *w)
{
	if (!policy.gone_ns)
		return 0;
	policy.halted = 1;
	stop_agents();
	bpf_timer_start(&w->timer, AGAIN_NS, 0);
	return 0;
}

static __always_inline void daemon_gone(void)
{
	__u32 zero = 0;
	struct watch *w;

	policy.gone_ns = bpf_ktime_get_boot_ns() ?: 1;
	w = bpf_map_lookup_elem(&watches, &zero);
	if (!w)
		return;
	/* Fails the second time, when it is there. */
	bpf_timer_init(&w->timer, &watches, CLOCK_BOOTTIME);
	bpf_timer_set_callback(&w->timer, halt_agents);
	bpf_timer_start(&w->timer, policy.grace_ns, 0);
}

/* As wait(2) tells it. */
static __always_inline __u32 wait_status(struct task_struct *t)
{
	if (t->signal->flags & SIGNAL_GROUP_EXIT)
		return t->signal->group_exit_code;
	return t->group_leader->exit_code;
}

/* A process ends with its last thread. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exit, struct task_struct *t)
{
	struct KernelAgent *a;

	if (unlikely(policy.moving))
		settle_moves(t, false);
	if (t->signal->live.counter)
		return 0;
	if (unlikely(policy.sealed && t->tgid == policy.daemon_tgid) && is_daemon(t)) {
		daemon_gone();
		return 0;
	}
	a = agent_of(t);
	if (a)
		report_left(a);
	if (a && a->main == (__u32)t->tgid && !a->ended) {
		a->status = wait_status(t);
		a->ended = 1;
	}
	return 0;
}

static __always_inline bool is_name_of_loader(const char *s)
{
	return (s[0] == 'L' && s[1] == 'D' && s[2] == '_') ||
	       !__builtin_memcmp(s, "GLIBC_TUNABLES", 14);
}

/*
 * Arguments and environment lie on the new stack, one behind the other, the program's name last. They
 * are as the kernel has just put them there: nothing of the program has run.
 */
static __noinline bool loads_other_code(unsigned long at, unsigned long end)
{
	bool found = true, begins = true;
	struct scratch *s;
	int i;

	bpf_preempt_disable();
	s = scratch();
	bpf_for(i, 0, PARTS_MAX) {
		long n;

		if (!s)
			break;
		if (at >= end) {
			found = false;
			break;
		}
		n = bpf_probe_read_user_str(s->text, PART_MAX, (void *)at);
		if (n <= 0 || (begins && is_name_of_loader(s->text)))
			break;
		/* One that was cut goes on where it was. */
		begins = n < PART_MAX;
		at += begins ? n : n - 1;
	}
	bpf_preempt_enable();
	return found;
}

static __always_inline __u32 unfit(const struct linux_binprm *bprm, struct task_struct *me)
{
	struct task_struct *init = me->real_parent;

	if (init->tgid != 1)
		return ADMISSION_NOT_BY_INIT;
	if (bprm->unsafe)
		return ADMISSION_SHARED;
	if (me->seccomp.mode)
		return ADMISSION_FILTERED;
	if (me->nsproxy->mnt_ns != init->nsproxy->mnt_ns ||
	    me->nsproxy->cgroup_ns != init->nsproxy->cgroup_ns ||
	    me->nsproxy->pid_ns_for_children != init->nsproxy->pid_ns_for_children ||
	    me->fs->root.dentry != init->fs->root.dentry ||
	    me->fs->root.mnt != init->fs->root.mnt ||
	    me->cred->user_ns != init->cred->user_ns)
		return ADMISSION_NAMESPACES;
	if (loads_other_code(bprm->p, bprm->exec))
		return ADMISSION_ENVIRONMENT;
	return 0;
}

/*
 * There is no daemon, and a program starts: it is let in if it is the one that was measured, as PID 1
 * starts it, with nothing of anybody else's in it. From here on it is guarded as the daemon.
 */
static __noinline int admit(const struct linux_binprm *bprm)
{
	struct task_struct *me = bpf_get_current_task_btf();
	struct file *f = bprm->file;
	__u32 one = 1, why;
	struct FileKey k;
	__u32 *mark;

	know(&k, f->f_inode->i_sb, f->f_inode);
	if (k.dev != policy.successor.dev || k.ino != policy.successor.ino)
		return 0;
	why = unfit(bprm, me);
	if (why)
		return report_path(NULL, &f->f_path, BROKEN_SEAL(ADMISSION, why), 0);
	mark = bpf_task_storage_get(&daemons, me, &one, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!mark)
		return 0;
	*mark = 1;
	policy.daemon_tgid = me->tgid;
	policy.admissions++;
	policy.gone_ns = 0;
	return 0;
}
