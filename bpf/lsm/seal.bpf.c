// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The seal: what tasks outside every agent, root included, may not do once it is closed. These
 * functions are what the hooks of the other files call when it is no agent who acts.
 */

#define SEAL_DEPTH LEVELS_MAX

/* The daemon may, and PID 1 the little that systemd needs to manage the service. */
static __always_inline int refuse_outsider(__u64 what)
{
	return report_plain(NULL, what, 0);
}

static __always_inline __u64 parent_address(struct kernfs_node *kn)
{
	__u64 parent = 0;

	if (bpf_core_field_exists(kn->__parent))
		bpf_core_read(&parent, sizeof(parent), &kn->__parent);
	else
		bpf_core_read(&parent, sizeof(parent), &((struct kernfs_node___old *)kn)->parent);
	return parent;
}

static __always_inline struct kernfs_node *kernfs_parent(struct kernfs_node *kn)
{
	__u64 parent = parent_address(kn);

	return parent ? as(kernfs_node, (void *)parent) : NULL;
}

/* The cgroup lies in the slice of agents. A global function, verified once. */
__noinline int in_slice(struct kernfs_node *kn __arg_untrusted)
{
	int i;

	bpf_for(i, 0, SEAL_DEPTH) {
		if (!kn)
			return 0;
		if (kn->id == policy.slice_id)
			return 1;
		kn = kernfs_parent(kn);
	}
	return 0;
}

/* The cgroup is the daemon's or one above it. */
static __noinline bool is_guarded(__u64 id)
{
	int i;

	bpf_for(i, 0, GUARDED_CGROUPS) {
		if (policy.guarded[i] == id)
			return true;
	}
	return false;
}

static __always_inline bool is_name(const void *name, const char *want, int size)
{
	char have[16] = {};

	bpf_probe_read_kernel_str(have, sizeof(have), name);
	return !__builtin_memcmp(have, want, size);
}

/* Writing a control file of a cgroup. */
static __noinline bool cgroup_file_refused(struct inode *inode)
{
	struct kernfs_node *kn = as(kernfs_node, inode->i_private), *dir;

	if (!kn)
		return false;
	dir = kernfs_parent(kn);
	if (!dir)
		return false;
	if (in_slice(dir))
		return true;
	if (!is_guarded(dir->id))
		return false;
	if (!by_init())
		return true;
	return is_name(kn->name, "cgroup.kill", 12) || is_name(kn->name, "cgroup.freeze", 14);
}

/* The task that a file of /proc is about, referenced; NULL for none. */
static __always_inline struct task_struct *proc_task(struct inode *inode)
{
	struct proc_inode *proc =
		as(proc_inode, (void *)inode - bpf_core_field_offset(struct proc_inode, vfs_inode));
	struct pid *pid = as(pid, proc->pid);

	return pid ? bpf_task_from_pid(pid->numbers[0].nr) : NULL;
}

/*
 * One letter in sysrq-trigger ends every process, the daemon's with them; its own files say who the kernel ends
 * when memory is short, and what its limits are.
 */
static __always_inline bool proc_file_refused(struct file *f, struct inode *inode)
{
	struct task_struct *t;
	bool guarded;

	if (is_name(as(dentry, f->f_path.dentry)->d_name.name, "sysrq-trigger", 14))
		return true;
	t = proc_task(inode);
	if (!t)
		return false;
	guarded = is_daemon(t);
	bpf_task_release(t);
	return guarded;
}

static __noinline int outsider_changes_file(struct file *f)
{
	struct inode *inode = as(inode, f->f_inode);
	unsigned long magic = inode->i_sb->s_magic;

	if (magic == CGROUP2_MAGIC) {
		if (!cgroup_file_refused(inode) || by_daemon())
			return 0;
	} else if (magic == PROC_MAGIC) {
		if (!proc_file_refused(f, inode) || by_daemon())
			return 0;
		return report_dentry(NULL, f->f_path.dentry, mount_of(f->f_path.mnt),
				     BROKEN_SEAL(PROC_WRITE, RIGHT_WRITE), 0);
	} else {
		return 0;
	}
	return report_dentry(NULL, f->f_path.dentry, mount_of(f->f_path.mnt),
			     BROKEN_SEAL(CGROUP_WRITE, RIGHT_WRITE), 0);
}

/*
 * `/proc/<pid>/environ` of the daemon or an agent: the kernel shows that memory to who may trace
 * *or* holds CAP_PERFMON, so the hook for tracing does not decide alone.
 */
static __noinline int outsider_reads_proc(struct file *f)
{
	struct inode *inode = as(inode, f->f_inode);
	struct task_struct *t;
	bool guarded;

	if (!is_name(as(dentry, f->f_path.dentry)->d_name.name, "environ", 8))
		return 0;
	t = proc_task(inode);
	if (!t)
		return 0;
	guarded = is_daemon(t) || agent_of(t);
	bpf_task_release(t);
	return guarded && !by_daemon() ? -EPERM : 0;
}

static __noinline int outsider_opens_secret(struct file *f)
{
	struct FileKey k;

	know(&k, f->f_inode->i_sb, f->f_inode);
	if (k.ino != policy.secret.ino || k.dev != policy.secret.dev || by_daemon())
		return 0;
	return report_path(NULL, &f->f_path, BROKEN_SEAL(FILE_OPEN, RIGHT_READ), 0);
}

/* A disk beneath the daemon's folders, or a file in them. */
static __noinline int outsider_opens_own(struct file *f)
{
	struct inode *inode = as(inode, f->f_inode);

	if ((inode->i_mode & S_IFMT) == S_IFBLK) {
		if (!is_own_disk(inode->i_rdev) || by_daemon())
			return 0;
	} else if (!has_own(inode->i_sb) || !lies_in_own(f->f_path.dentry) || by_daemon()) {
		return 0;
	}
	return report_path(NULL, &f->f_path, BROKEN_SEAL(FILE_OPEN, RIGHT_WRITE), 0);
}

/* What a disk is asked, and that it writes out what it holds. */
static __always_inline bool asks_disk(unsigned int cmd)
{
	switch (cmd) {
	case 0x0301: /* HDIO_GETGEO */
	case 0x125e: /* BLKROGET */
	case 0x1260: /* BLKGETSIZE */
	case 0x1261: /* BLKFLSBUF */
	case 0x1263: /* BLKRAGET */
	case 0x1265: /* BLKFRAGET */
	case 0x1267: /* BLKSECTGET */
	case 0x1268: /* BLKSSZGET */
	case 0x1278: /* BLKIOMIN */
	case 0x1279: /* BLKIOOPT */
	case 0x127a: /* BLKALIGNOFF */
	case 0x127b: /* BLKPBSZGET */
	case 0x127c: /* BLKDISCARDZEROES */
	case 0x127e: /* BLKROTATIONAL */
	case 0x80081270: /* BLKBSZGET */
	case 0x80041270: /* BLKBSZGET_32 */
	case 0x80081272: /* BLKGETSIZE64 */
	case 0x80041272: /* BLKGETSIZE64_32 */
	case 0x80081280: /* BLKGETDISKSEQ */
	case 0x80041284: /* BLKGETZONESZ */
	case 0x80041285: /* BLKGETNRZONES */
	case 0x2282: /* SG_GET_VERSION_NUM */
	case 0x5331: /* CDROM_GET_CAPABILITY */
	case 0x5382: /* SCSI_IOCTL_GET_IDLUN */
	case 0x5386: /* SCSI_IOCTL_GET_BUS_NUMBER */
	case 0x4e40: /* NVME_IOCTL_ID */
		return true;
	}
	return false;
}

/*
 * The others change the disk beneath whatever it was opened for: commands of its own (SG_IO, NVME_IOCTL_IO_CMD) write
 * to it, BLKPG takes partitions away, BLKROSET makes it read-only.
 */
static __noinline int outsider_commands(struct file *f, unsigned int cmd)
{
	struct inode *inode = as(inode, f->f_inode);
	__u32 kind = inode->i_mode & S_IFMT;

	if (!policy.sealed || (kind != S_IFBLK && kind != S_IFCHR) || asks_disk(cmd))
		return 0;
	if (!(kind == S_IFBLK ? is_own_disk(inode->i_rdev) : is_own_passthrough(inode->i_rdev)) || by_daemon())
		return 0;
	return report_path(NULL, &f->f_path, BROKEN_SEAL(FILE_IOCTL, cmd), 0);
}

/* Size, mode, owner, times or attributes of a file in the daemon's folders. */
static __noinline int outsider_alters(struct dentry *d, __u64 what)
{
	d = as(dentry, d);
	if (!policy.sealed || !has_own(d->d_sb) || !lies_in_own(d) || by_daemon())
		return 0;
	return report_dentry(NULL, d, NULL, what, 0);
}

/* It takes commands whatever it is opened for. */
static __noinline int outsider_opens_device(struct file *f)
{
	struct inode *inode = as(inode, f->f_inode);

	if (!is_own_passthrough(inode->i_rdev) || by_daemon())
		return 0;
	return report_path(NULL, &f->f_path, BROKEN_SEAL(FILE_OPEN, RIGHT_WRITE), 0);
}

static __always_inline int outsider_opens(struct file *f)
{
	struct inode *inode = f->f_inode;
	unsigned long magic;

	if (!policy.sealed)
		return 0;
	magic = inode->i_sb->s_magic;
	if (unlikely(inode->i_ino == policy.secret.ino || shares_numbers(magic))) {
		int refused = outsider_opens_secret(f);

		if (refused)
			return refused;
	}
	if (unlikely((inode->i_mode & S_IFMT) == S_IFCHR)) {
		int refused = outsider_opens_device(f);

		if (refused)
			return refused;
	}
	if (f->f_mode & FMODE_WRITE)
		return outsider_changes_file(f) ?: outsider_opens_own(f);
	return unlikely(magic == PROC_MAGIC) ? outsider_reads_proc(f) : 0;
}

/* For what was opened before the seal was closed. */
static __always_inline int outsider_writes(struct file *f)
{
	if (!policy.sealed)
		return 0;
	return outsider_changes_file(f);
}

/* A name in the daemon's folders, or of a folder on the way to them. */
static __noinline int outsider_names_own(const struct path *dir, struct dentry *d)
{
	if (!policy.sealed || !(lies_in_own(d) || leads_to_own(d)) || by_daemon())
		return 0;
	return report_name(NULL, dir, d, BROKEN_SEAL(PATH_UNLINK, RIGHT_DELETE), 0);
}

/* Making, removing or renaming a pin or a cgroup of the slice, or what is the daemon's own. */
static __always_inline int outsider_names(const struct path *dir, struct dentry *d)
{
	struct dentry *parent = as(dentry, dir->dentry);
	unsigned long magic = parent->d_sb->s_magic;

	if (has_own(parent->d_sb))
		return outsider_names_own(dir, d);
	if (magic != BPF_FS_MAGIC && magic != CGROUP2_MAGIC)
		return 0;
	if (!sealed_to_current())
		return 0;
	if (magic == CGROUP2_MAGIC) {
		struct inode *inode = parent->d_inode, *own = as(dentry, d)->d_inode;

		if (!(inode && in_slice(as(kernfs_node, inode->i_private))) &&
		    !(own && in_slice(as(kernfs_node, own->i_private))))
			return 0;
	}
	return report_name(NULL, dir, d, BROKEN_SEAL(PATH_UNLINK, RIGHT_DELETE), 0);
}

static __always_inline bool sees_same_mounts(struct mount *m)
{
	return (__u64)m->mnt_ns == policy.mount_namespace || m->mnt_group_id;
}

/* The list of all processes, or one's folder: without it the daemon finds neither them nor what they have mapped. */
static __always_inline bool is_process_list(struct dentry *d)
{
	struct task_struct *t;

	if (d->d_sb->s_magic != PROC_MAGIC)
		return false;
	if (d == d->d_sb->s_root)
		return true;
	t = d->d_inode ? proc_task(as(inode, d->d_inode)) : NULL;
	if (!t)
		return false;
	bpf_task_release(t);
	return true;
}

static __always_inline int outsider_unmounts(struct vfsmount *m)
{
	struct super_block *sb = as(vfsmount, m)->mnt_sb;
	bool needed = sb->s_magic == BPF_FS_MAGIC ||
		      (sb->s_magic == PROC_MAGIC && sees_same_mounts(mount_of(m)));

	if (!needed || !sealed_to_current())
		return 0;
	return refuse_outsider(BROKEN_SEAL(SB_UMOUNT, 0));
}

/*
 * A mount over pins, control groups or the daemon's folders would hide them from it. Services with mounts of
 * their own (ProtectControlGroups=) may, where it does not spread to the daemon's.
 */
static __always_inline int outsider_covers(const struct path *at, bool covers)
{
	struct dentry *d = as(dentry, at->dentry);
	unsigned long magic = d->d_sb->s_magic;
	bool own = covers && has_own(d->d_sb) && (leads_to_own(d) || lies_in_own(d));

	if (magic != BPF_FS_MAGIC && magic != CGROUP2_MAGIC && magic != PROC_MAGIC && !own)
		return 0;
	if (!sees_same_mounts(mount_of(at->mnt)) || (magic == PROC_MAGIC && !is_process_list(d)))
		return 0;
	if (!sealed_to_current())
		return 0;
	return report_path(NULL, at, BROKEN_SEAL(SB_MOUNT, 0), 0);
}

/*
 * Control groups of version 1: a hierarchy of its own can stop any process (freezer) or starve it, and the daemon
 * has no cgroup there that would be guarded.
 */
static __always_inline int outsider_makes(const struct super_block *sb)
{
	if (sb->s_magic != CGROUP1_MAGIC || !sealed_to_current())
		return 0;
	return refuse_outsider(BROKEN_SEAL(SB_MOUNT, 1));
}

static __always_inline int outsider_remounts(struct super_block *sb)
{
	unsigned long magic = sb->s_magic;

	if ((magic != BPF_FS_MAGIC && magic != CGROUP2_MAGIC) || !sealed_to_current())
		return 0;
	return refuse_outsider(BROKEN_SEAL(SB_REMOUNT, 0));
}

static __always_inline int outsider_calls_bpf(int cmd)
{
	if (!sealed_to_current())
		return 0;
	return refuse_outsider(BROKEN_SEAL(BPF, cmd));
}

static __always_inline int outsider_signals(struct task_struct *p, int sig)
{
	if (!policy.sealed || !sig)
		return 0;
	/* Nobody lets an agent go on while there is no daemon. */
	if (unlikely(policy.halted) && sig == SIGCONT && agent_of(p) && !by_daemon())
		return refuse_outsider(BROKEN_SEAL(TASK_KILL, sig));
	if (!is_daemon(p) || by_daemon())
		return 0;
	/* An orderly stop is systemd's to ask for; it sends SIGCONT along. */
	if (by_init() && (sig == SIGTERM || sig == SIGCONT))
		return 0;
	return refuse_outsider(BROKEN_SEAL(TASK_KILL, sig));
}

/*
 * Tracing the daemon or an agent. Reading (`/proc/<pid>/environ`, `maps`, `fd`…) is refused
 * without an event: process viewers do it to everybody all the time.
 */
static __always_inline int outsider_traces(struct task_struct *child, unsigned int mode)
{
	/* Whoever traces PID 1 has its hand, which may end the daemon and start the next. */
	if (policy.sealed && child->tgid == 1 && (mode & PTRACE_MODE_ATTACH) && !by_init())
		return refuse_outsider(BROKEN_SEAL(PTRACE_ACCESS, mode));
	if (!policy.sealed || (!is_daemon(child) && !agent_of(child)) || by_daemon())
		return 0;
	if (mode & PTRACE_MODE_ATTACH)
		return refuse_outsider(BROKEN_SEAL(PTRACE_ACCESS, mode));
	return by_init() ? 0 : -EPERM;
}

/*
 * Counters and samples, registers and stacks included, of the daemon, of an agent, or of whoever runs. One's own are
 * one's own. The kernel has events, too (watchdogs).
 */
static __always_inline int outsider_measures(struct perf_event *event)
{
	struct task_struct *target, *t;
	bool guarded;

	if (!sealed_to_current() || (bpf_get_current_task_btf()->flags & PF_KTHREAD))
		return 0;
	target = BPF_CORE_READ(event, hw.target);
	t = target ? bpf_task_from_pid(BPF_CORE_READ(target, pid)) : NULL;
	if (t) {
		guarded = is_daemon(t) || agent_of(t);
		bpf_task_release(t);
		if (!guarded)
			return 0;
	}
	return refuse_outsider(BROKEN_SEAL(PERF_EVENT_OPEN, 0));
}

static __always_inline int outsider_controls(struct task_struct *p, __u32 kind)
{
	if (!policy.sealed || !is_daemon(p) || by_daemon())
		return 0;
	return refuse_outsider(BROKEN_SEAL(TASK_CONTROL, kind));
}

/* The daemon's code is its program's and that of libraries beside it. */
static __always_inline int outsider_runs(struct file *f)
{
	if (!policy.sealed || !by_daemon() || f->f_inode->i_sb->s_dev == policy.successor.dev)
		return 0;
	return report_path(NULL, &f->f_path, BROKEN_SEAL(ADMISSION, ADMISSION_LIBRARY), 0);
}
