// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* An agent is its cgroup: who is in one stays in it, and nobody else gets in. */

/* clone3() can place a child in another cgroup without a write to cgroupfs. */
SEC("tp_btf/task_newtask")
int BPF_PROG(task_newtask, struct task_struct *child, __u64 flags)
{
	struct task_struct *me = bpf_get_current_task_btf();
	struct KernelAgent *a, *b;

	if (me->cgroups->dfl_cgrp == child->cgroups->dfl_cgrp)
		return 0;
	a = agent_of(me);
	b = agent_of(child);
	if (a == b || (!a && !sealed_to_current()))
		return 0;
	/* It has not run yet, and never will. */
	bpf_send_signal_task(child, SIGKILL, PIDTYPE_TGID, 0);
	if (a)
		report_plain(a, FORBIDDEN(CGROUP_MOVE, 0), b ? b->aid : 0);
	else
		report_plain(NULL, BROKEN_SEAL(CGROUP_MOVE, 0), b ? b->aid : 0);
	return 0;
}

/* Somebody writes a process id into cgroup.procs; this runs before the process moves. */
SEC("fentry/cgroup_attach_task")
int BPF_PROG(cgroup_attach_task, struct cgroup *to, struct task_struct *leader, bool group)
{
	struct task_struct *known;
	struct KernelAgent *a;
	int i;

	if (!policy.sealed)
		return 0;
	if (is_daemon(leader)) {
		/* A hierarchy of version 1 is none of those that guard it. */
		if (BPF_CORE_READ(to, root) != BPF_CORE_READ(leader, cgroups, dfl_cgrp, root)) {
			if (!by_daemon())
				report_plain(NULL, BROKEN_SEAL(CGROUP_MOVE, 1), 0);
			return 0;
		}
		/* It cannot be kept from moving; what guards it moves along. */
		bpf_for(i, 0, GUARDED_CGROUPS) {
			struct cgroup *above = NULL;

			if (i < to->level)
				bpf_probe_read_kernel(&above, sizeof(above),
						      (void *)to +
							      bpf_core_field_offset(struct cgroup, ancestors) +
							      (i + 1) * sizeof(void *));
			policy.guarded[i] = above ? as(cgroup, above)->kn->id : 0;
		}
		if (!by_daemon())
			report_plain(NULL, BROKEN_SEAL(CGROUP_MOVE, 0), 0);
		return 0;
	}
	if (by_daemon())
		return 0;
	/* The verifier trusts the task that it looks up itself. */
	known = bpf_task_from_pid(leader->pid);
	if (!known)
		return 0;
	a = agent_of(known);
	/* Outside its cgroup it would be free of every check. */
	if (a && known->cgroups->dfl_cgrp != to) {
		bpf_send_signal_task(known, SIGKILL, PIDTYPE_TGID, 0);
		report_plain(NULL, BROKEN_SEAL(CGROUP_MOVE, 0), a->aid);
	}
	bpf_task_release(known);
	return 0;
}

/* Every folder above a file, mounts crossed. A global function, verified once. */
__noinline int tell_above(__u64 thread, struct dentry *d __arg_untrusted,
			  struct mount *m __arg_untrusted)
{
	struct Resolved *r = bpf_map_lookup_elem(&resolved, &thread);
	int i;

	if (!r)
		return 0;
	bpf_for(i, 0, ABOVE_MAX + MAX_MOUNTS) {
		struct dentry *up = d->d_parent;
		struct inode *inode;
		__u32 n = r->depth;

		if (d == m->mnt.mnt_root) {
			struct mount *above = as(mount, m->mnt_parent);

			if (above == m)
				return 0;
			d = as(dentry, m->mnt_mountpoint);
			m = above;
			/* What a mount lies on is hidden by it: only what is above counts. */
			continue;
		}
		if (d == up)
			return 0;
		d = as(dentry, up);
		inode = d->d_inode;
		if (n >= ABOVE_MAX)
			break;
		if (inode)
			know(&r->above[n], d->d_sb, inode);
		r->depth = n + 1;
	}
	r->flags |= RESOLVED_CUT;
	return 0;
}

/* The daemon looks at a file: tell it the numbers by which the programs know the file. */
static __always_inline int tell_daemon(const struct path *path)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct Resolved *r;
	struct dentry *d;

	if (thread >> 32 != policy.daemon_tgid)
		return 0;
	policy.mount_namespace = (__u64)bpf_get_current_task_btf()->nsproxy->mnt_ns;
	r = bpf_map_lookup_elem(&resolved, &thread);
	if (!r)
		return 0;
	d = as(dentry, path->dentry);
	know(&r->file, d->d_sb, d->d_inode);
	r->flags |= RESOLVED_SEEN;
	if (is_internal(path))
		r->flags |= RESOLVED_INTERNAL;
	else
		tell_above(thread, d, mount_of(path->mnt));
	return 0;
}

static __always_inline int set_file(struct Control *c)
{
	__u32 number = c->value;
	struct FileNode *n = bpf_map_lookup_elem(&file_nodes, &number);

	if (!n)
		return -ENOENT;
	n->file = c->file;
	n->sets = c->sets;
	return 0;
}

static __always_inline int set_rights(struct Control *c)
{
	struct GrantKey k = c->grant;
	struct Grant *g = bpf_map_lookup_elem(&fs_caps, &k);

	if (!g)
		return -ENOENT;
	g->rights = c->value;
	return 0;
}

static __always_inline int add_uses(struct Control *c)
{
	__u32 number = c->number;
	struct UseCounter *n = bpf_map_lookup_elem(&counters, &number);

	if (!n)
		return -ENOENT;
	__sync_fetch_and_add(&n->left, c->value);
	return 0;
}

static __always_inline int set_parent(struct Control *c)
{
	__u64 child = c->cgroup;
	__u64 *parent = bpf_map_lookup_elem(&parents, &child);

	if (!parent)
		return -ENOENT;
	*parent = c->value;
	return 0;
}

static __always_inline void expect(struct KernelAgent *a, struct Control *c)
{
	a->program = c->file;
	a->interpreter = c->interpreter;
	__sync_fetch_and_or(&a->flags, FLAG_EXPECT);
}

/* The daemon changes what is its own to change, in place: a list or a state stays another's. */
SEC("syscall")
int control(struct Control *c)
{
	struct KernelAgent *a;
	struct cgroup *group;
	int ret = 0;

	if (c->op == CONTROL_VOID_FILE) {
		void_file(c->value);
		return 0;
	}
	if (c->op == CONTROL_SET_FILE)
		return set_file(c);
	if (c->op == CONTROL_SET_RIGHTS)
		return set_rights(c);
	if (c->op == CONTROL_SET_PARENT)
		return set_parent(c);
	if (c->op == CONTROL_ADD_USES)
		return add_uses(c);
	group = bpf_cgroup_from_id(c->cgroup);
	if (!group)
		return -ENOENT;
	if (c->op == CONTROL_LEARN_SLICE) {
		policy.slice_address = (__u64)group;
		policy.slice_id = c->cgroup;
		policy.slice_level = group->level;
		policy.agent_level = group->level + 2;
		goto out;
	}
	bpf_rcu_read_lock();
	a = bpf_cgrp_storage_get(&agents, group, NULL, 0);
	if (!a)
		ret = -ENOENT;
	else if (c->op == CONTROL_SET_STATE)
		a->state = c->value;
	else if (c->op == CONTROL_SET_FLAGS)
		__sync_fetch_and_or(&a->flags, c->value);
	else if (c->op == CONTROL_CLEAR_FLAGS)
		__sync_fetch_and_and(&a->flags, ~c->value);
	else if (c->op == CONTROL_SET_LIST)
		a->list = c->value;
	else if (c->op == CONTROL_EXPECT)
		expect(a, c);
	else
		ret = -EINVAL;
	bpf_rcu_read_unlock();
out:
	bpf_cgroup_release(group);
	return ret;
}
