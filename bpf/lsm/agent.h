/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Who acts: an agent, the daemon, or somebody else. */
#pragma once

extern struct cgroup *bpf_cgroup_ancestor(struct cgroup *cgrp, int level) __ksym;
extern struct cgroup *bpf_cgroup_from_id(__u64 cgid) __ksym;
extern void bpf_cgroup_release(struct cgroup *cgrp) __ksym;
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;
extern void *bpf_rdonly_cast(const void *obj__ign, __u32 btf_id__k) __ksym;
extern int bpf_send_signal_task(struct task_struct *task, int sig, enum pid_type type,
				__u64 value) __ksym;
extern struct task_struct *bpf_task_from_pid(__s32 pid) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;

#define as(type, pointer) ((struct type *)bpf_rdonly_cast(pointer, bpf_core_type_id_kernel(struct type)))

/* Deepest cgroup that is looked at: agents that are children lie below their parents. */
#define LEVELS_MAX 96

/* The address of the cgroup above `c` at a level; 0 for none. */
static __always_inline __u64 ancestor_address(struct cgroup *c, __u32 level)
{
	__u64 address = 0;

	if (level <= (__u32)c->level)
		bpf_probe_read_kernel(&address, sizeof(address),
				      (void *)c + bpf_core_field_offset(struct cgroup, ancestors) +
					      (level & 127) * sizeof(void *));
	return address;
}

/* Deeper than an agent that is nobody's child: the nearest cgroup upward that is an agent's. */
static __noinline struct KernelAgent *agent_above(struct cgroup *c)
{
	struct KernelAgent *a = bpf_cgrp_storage_get(&agents, c, NULL, 0);
	int i, level = c->level;

	if (a || ancestor_address(c, policy.slice_level) != policy.slice_address)
		return a;
	bpf_for(i, 1, LEVELS_MAX) {
		struct cgroup *above;

		if (level - i < (int)policy.agent_level)
			break;
		above = bpf_cgroup_ancestor(c, level - i);
		if (!above)
			break;
		a = bpf_cgrp_storage_get(&agents, above, NULL, 0);
		bpf_cgroup_release(above);
		if (a)
			return a;
	}
	return NULL;
}

/* The agent that a cgroup belongs to, or NULL. */
static __always_inline struct KernelAgent *agent_in(struct cgroup *c)
{
	if (c->level < (int)policy.agent_level)
		return NULL;
	if (c->level == (int)policy.agent_level)
		return bpf_cgrp_storage_get(&agents, c, NULL, 0);
	return agent_above(c);
}

/* The agent that a task belongs to, or NULL. */
static __always_inline struct KernelAgent *agent_of(struct task_struct *t)
{
	return agent_in(t->cgroups->dfl_cgrp);
}

/* The agent that acts, or NULL for everybody else and while the daemon's own code prepares it. */
static __always_inline struct KernelAgent *current_agent(void)
{
	struct KernelAgent *a = agent_of(bpf_get_current_task_btf());

	if (a && (a->flags & FLAG_SETUP))
		return NULL;
	return a;
}

static __always_inline bool quarantined(const struct KernelAgent *a)
{
	return a->state == AGENT_STATE_QUARANTINED;
}

/* The list that it has at this moment: it is given another one while it is being asked about. */
static __always_inline __u64 list_now(struct KernelAgent *a)
{
	return *(volatile __u64 *)&a->list;
}

static __always_inline bool is_daemon(struct task_struct *t)
{
	struct task_struct *leader;
	__u32 *mark;

	if (t->tgid != policy.daemon_tgid)
		return false;
	leader = t->group_leader;
	if (!leader)
		return false;
	mark = bpf_task_storage_get(&daemons, leader, NULL, 0);
	return mark && *mark;
}

static __always_inline bool by_daemon(void)
{
	return is_daemon(bpf_get_current_task_btf());
}

/* The seal is closed and it is not the daemon who asks. */
static __always_inline bool sealed_to_current(void)
{
	return policy.sealed && !by_daemon();
}

static __always_inline bool by_init(void)
{
	return bpf_get_current_task_btf()->tgid == 1;
}

/* Voids every remembered verdict. */
static __always_inline void void_verdicts(void)
{
	__sync_fetch_and_add(&policy.epoch, 1);
}
