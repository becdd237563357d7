/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What of /proc is an agent's own. It has a right on its whole /proc (launch.rs); what lies there beside its processes
 * is about the machine, and of their network about everybody's: of both a few files may be read.
 */
#pragma once

/* A file of /proc/<pid>/task/<tid>/net, or of /proc/sys, lies no deeper. */
#define PROC_DEPTH 12

static __always_inline bool is_proc(struct file *f)
{
	return f->f_path.dentry->d_sb->s_magic == PROC_MAGIC;
}

/* The whole of a short name. */
#define IS(have, want) (!__builtin_memcmp(have, want, sizeof(want)))

/* Of all of the machine: how large it is, how busy, what it runs. */
static __noinline bool tells_of_machine(const void *name)
{
	char n[16] = {};

	bpf_probe_read_kernel_str(n, sizeof(n), name);
	return IS(n, "sys") || IS(n, "tty") || IS(n, "meminfo") || IS(n, "loadavg") || IS(n, "cpuinfo") ||
	       IS(n, "stat") || IS(n, "uptime") || IS(n, "version") || IS(n, "devices") || IS(n, "cmdline") ||
	       IS(n, "swaps") || IS(n, "cgroups") || IS(n, "pressure") || IS(n, "filesystems");
}

/* Of the network: what interfaces and routes there are, and nobody's sockets. */
static __noinline bool tells_of_network(const void *name)
{
	char n[16] = {};

	bpf_probe_read_kernel_str(n, sizeof(n), name);
	return IS(n, "dev") || IS(n, "if_inet6") || IS(n, "route") || IS(n, "ipv6_route");
}

/* What only root may read (tcp_fastopen_key) is not for an agent that runs as root. */
static __always_inline bool is_for_everybody(struct inode *inode)
{
	return inode && (inode->i_mode & S_IROTH);
}

/* Whether a file of /proc tells, or changes, what is no agent's own. A global function, verified once. */
__noinline int is_machines(struct dentry *d __arg_untrusted, int changes)
{
	struct dentry *above = d->d_parent, *file = d;
	bool in_net = false;
	char first;
	int i;

	if (d == above)
		return 0; /* the list of processes */
	bpf_for(i, 0, PROC_DEPTH) {
		struct dentry *next = above->d_parent;

		if (above == next) {
			bpf_probe_read_kernel(&first, 1, d->d_name.name);
			if (first < '0' || first > '9')
				return changes || !tells_of_machine(d->d_name.name) ||
				       !is_for_everybody(file->d_inode);
			return in_net && (changes || !tells_of_network(file->d_name.name));
		}
		in_net |= is_name(above->d_name.name, "net", 4);
		d = as(dentry, above);
		above = as(dentry, next);
	}
	return 1;
}

/*
 * The list of all processes in a /proc that agents share. What lies below it is decided process by
 * process (hidepid and ptrace_access_check), which for a list would be asked of every agent's.
 */
static __always_inline bool lists_others(struct KernelAgent *a, struct file *f, __u32 all)
{
	struct dentry *d = f->f_path.dentry;

	return (a->flags & FLAG_SHARES) && (all & RIGHT_READ) && d == d->d_sb->s_root;
}

/* `/proc/<pid>/attr/…`, where other security modules take orders: the hook behind it is open to no BPF program. */
static __noinline bool gives_orders(struct file *f)
{
	struct dentry *d = as(dentry, f->f_path.dentry);
	int i;

	/* The name itself, one more folder for each module. */
	for (i = 0; i < 2; i++) {
		d = as(dentry, d->d_parent);
		if (is_name(d->d_name.name, "attr", 5))
			return true;
	}
	return false;
}

/* Memory as a file: writing there goes past what the pages are mapped for. */
static __noinline bool is_memory(struct file *f)
{
	return is_name(as(dentry, f->f_path.dentry)->d_name.name, "mem", 4);
}

/* What is refused of a file in /proc, as report_path takes it; 0 if nothing is. */
static __noinline __u64 refused_in_proc(struct KernelAgent *a, struct file *f, __u32 all)
{
	bool changes = all & RIGHTS_CHANGE;

	if (lists_others(a, f, all))
		return FORBIDDEN(FILE_OPEN, all);
	if (changes && gives_orders(f))
		return FORBIDDEN(FILE_OPEN, all);
	if (changes && (a->flags & FLAG_STRICT) && is_memory(f))
		return FORBIDDEN(CODE_MEMORY, all);
	if (is_machines(as(dentry, f->f_path.dentry), changes))
		return DENIAL(PROC_READ, all);
	return 0;
}
