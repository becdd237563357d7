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

/*
 * A pointer as a number, for global functions, which take no untrusted pointers. The index is
 * always 0, but the verifier does not know it: what comes from a slot it is not sure of is a number.
 */
static __always_inline __u64 address_of(const void *pointer)
{
	volatile __u64 slots[2] = {};
	__u32 i = policy.reserved & 1;

	slots[i] = (__u64)pointer;
	return slots[i];
}

/* Below an agent: nobody makes cgroups there, but should one exist it is still the agent's. */
static __noinline struct KernelAgent *agent_above(struct cgroup *c)
{
	struct KernelAgent *a;
	__u64 slice = 0;

	bpf_probe_read_kernel(&slice, sizeof(slice),
			      (void *)c + bpf_core_field_offset(struct cgroup, ancestors) +
				      sizeof(void *));
	if (slice != policy.slice_address)
		return NULL;
	c = bpf_cgroup_ancestor(c, AGENT_LEVEL);
	if (!c)
		return NULL;
	a = bpf_cgrp_storage_get(&agents, c, NULL, 0);
	bpf_cgroup_release(c);
	return a;
}

/* The agent that a task belongs to, or NULL. */
static __always_inline struct KernelAgent *agent_of(struct task_struct *t)
{
	struct cgroup *c = t->cgroups->dfl_cgrp;

	if (c->level < AGENT_LEVEL)
		return NULL;
	if (c->level == AGENT_LEVEL)
		return bpf_cgrp_storage_get(&agents, c, NULL, 0);
	return agent_above(c);
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

/* Voids every cached verdict. */
static __always_inline void void_verdicts(void)
{
	__sync_fetch_and_add(&policy.epoch, 1);
}
