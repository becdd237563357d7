// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Open files: opening, using, mapping, receiving them. */

/* Rights that an open file stands for: all of the returned, one of `any`. */
static __always_inline __u32 wanted_by_open(struct file *f, __u32 *any)
{
	__u32 mode = f->f_mode, all = 0;

	*any = 0;
	if (mode & FMODE_EXEC) {
		/* A program or its loader; execve() itself is decided in bprm_check. */
		*any = RIGHT_READ | RIGHT_EXEC;
	} else if (mode & FMODE_READ) {
		all |= RIGHT_READ;
	}
	if ((mode & FMODE_WRITE) && (f->f_flags & O_APPEND_BIT) && !*any)
		*any = RIGHT_WRITE | RIGHT_APPEND;
	else if (mode & FMODE_WRITE)
		all |= RIGHT_WRITE;
	if (f->f_flags & O_TMPFILE_BIT)
		all |= RIGHT_CREATE;
	if (!all && !*any)
		*any = RIGHTS_OPEN;
	return all;
}

/*
 * The plain ways to write at the end. fallocate(), pwritev2() with RWF_NOAPPEND and io_uring ask the
 * same hook and could cut or overwrite; the kernel holds the others to O_APPEND.
 */
static __always_inline bool is_plain_write(void)
{
	struct pt_regs *regs =
		(struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	long number = regs->orig_ax;

	return number == 1 /* write */ || number == 18 /* pwrite64 */ || number == 20 /* writev */ ||
	       number == 296 /* pwritev */ || number == 40 /* sendfile */;
}

/* Writing at the end of a file that is open for that, with no right to more. */
static __always_inline bool appends(struct KernelAgent *a, struct file *f)
{
	return (f->f_flags & O_APPEND_BIT) && is_plain_write() &&
	       ((rights_of(cover_path(a, &f->f_path, RIGHT_APPEND, 0)) & RIGHT_APPEND) ||
		used_on(a, f, 0, RIGHT_APPEND, 0));
}

SEC("lsm/file_open")
int BPF_PROG(file_open, struct file *f)
{
	struct KernelAgent *a = current_agent();
	__u64 cover, used = 0;
	__u32 all, any;
	int verdict;

	if (!a)
		return outsider_opens(f);
	settle_own_moves(true);
	/* It is there, and was not to be made. */
	if (f->f_flags & O_CREAT_BIT)
		clear_suspect();
	if (unlikely(quarantined(a)))
		return report_path(a, &f->f_path, DENIAL(QUARANTINE, 0), 0);
	if (passes(f))
		return 0;
	all = wanted_by_open(f, &any);
	if ((all & RIGHTS_CHANGE) && is_control_fs(f->f_inode->i_sb->s_magic)) {
		clear_suspect();
		return report_path(a, &f->f_path, DENIAL(CGROUP_WRITE, all), 0);
	}
	cover = cover_file(a, f, all, any);
	if (!enough(rights_of(cover), all, any)) {
		used = open_by_use(a, f, missing(cover, all, any));
		if (!used) {
			clear_suspect();
			return report_path(a, &f->f_path, DENIAL(FILE_OPEN, all | any), 0);
		}
	}
	if (is_proc(f)) {
		__u64 what = refused_in_proc(a, f, all);

		if (what) {
			clear_suspect();
			if (used)
				not_opened(f);
			return report_path(a, &f->f_path, what, 0);
		}
	}
	verdict = report_path(a, &f->f_path, USE(FILE_OPEN, all | any), used ?: ruling_of(cover));
	if (verdict && used)
		not_opened(f);
	return verdict;
}

/* The file goes, and what was remembered of it; its address may be another file's next. */
SEC("lsm/file_free_security")
int BPF_PROG(file_freed, struct file *f)
{
	__u64 file = address_of(f);
	struct OpenedFile *o = slot_of(file);

	if (o && o->file == file)
		o->file = 0;
	if (any_counted())
		bpf_map_delete_elem(&taken, &file);
	return 0;
}

/* Whether it is decided without a look at the agent's rights; how, in `verdict`. */
static __always_inline bool is_settled(struct KernelAgent *a, struct file *f, __u32 all, int *verdict)
{
	*verdict = 0;
	if (unlikely(quarantined(a))) {
		*verdict = report_path(a, &f->f_path, DENIAL(QUARANTINE, 0), 0);
		return true;
	}
	if (passes(f))
		return true;
	if ((all & RIGHTS_CHANGE) && is_control_fs(f->f_inode->i_sb->s_magic)) {
		*verdict = report_path(a, &f->f_path, DENIAL(CGROUP_WRITE, all), 0);
		return true;
	}
	return false;
}

/* Decides once more on a file that is open already; nothing is reported if it may. */
static __always_inline int recheck(struct KernelAgent *a, struct file *f, __u32 all, __u32 any,
				   __u64 what)
{
	__u64 cover;
	int verdict;

	settle_own_moves(true);
	if (is_settled(a, f, all, &verdict))
		return verdict;
	cover = cover_file(a, f, all, any);
	if (enough(rights_of(cover), all, any) || used_on(a, f, cover, all, any))
		return 0;
	return report_path(a, &f->f_path, what, 0);
}

/* For a call that moves pages from one file to another. */
static __noinline bool may_pass_on(struct KernelAgent *a, struct file *f, int mask, long call)
{
	bool passing = passes(f);

	if (quarantined(a))
		return true; /* is refused below */
	if (!(mask & MAY_READ))
		return call != CALL_SENDFILE || !passing || ends_errand(a, KEPT_PAGES);
	if (!passing)
		return may_move(a, f, call);
	return set_errand(a, 0, 0);
}

SEC("lsm/file_permission")
int BPF_PROG(file_permission, struct file *f, int mask)
{
	struct KernelAgent *a = current_agent();
	__u32 all = 0;
	long call;

	if (!a)
		return mask & MAY_WRITE ? outsider_writes(f) : 0;
	call = moving_call(a);
	if (unlikely(call) && !may_pass_on(a, f, mask, call))
		return report_path(a, &f->f_path, DENIAL(FILE_PERMISSION, RIGHT_READ), 0);
	if (mask & MAY_READ)
		all |= RIGHT_READ;
	if (mask & (MAY_WRITE | MAY_APPEND))
		all |= RIGHT_WRITE;
	if (!quarantined(a) && (remembered(a, f, all) || (all == RIGHT_WRITE && appends(a, f))))
		return 0;
	return recheck(a, f, all, 0, DENIAL(FILE_PERMISSION, all));
}

/* How often a mapping is decided again because the agent's rights changed meanwhile. */
#define MAP_TRIES 4

/* Notes that something may be mapped by the rules of a file. */
static __always_inline void mark_mapped(struct KernelAgent *a, __u32 by)
{
	__u64 bit = 1ull << (by & 63), *word = &a->mapped[(by >> 6) & (MAPPED_WORDS - 1)];
	int i;

	if (by == BY_SEVERAL || by == BY_NONE) {
		for (i = 0; i < MAPPED_WORDS; i++)
			__sync_fetch_and_or(&a->mapped[i], ~0ull);
	} else if (!(*word & bit)) {
		__sync_fetch_and_or(word, bit);
	}
}

/*
 * A mapping outlives the right that it was made by, and is not asked about again. Whoever takes the
 * right away looks for a mark, after the new list is in place: so a mark is made before the list is
 * looked at once more, and one of the two sees the other.
 */
static __noinline bool may_map(struct KernelAgent *a, struct file *f, __u32 all, __u32 any)
{
	int i;

	for (i = 0; i < MAP_TRIES; i++) {
		__u64 list = list_now(a);
		struct found found = {};

		walk(list, &found, as(dentry, f->f_path.dentry), mount_of(f->f_path.mnt), BOTH(all, any));
		if (!enough(rights_of(found.cover), all, any)) {
			if (!used_on(a, f, found.cover, all, any))
				return false;
			found.by = found.by == BY_NONE ? used_by(f) : BY_SEVERAL;
		}
		mark_mapped(a, found.by);
		if (list_now(a) == list)
			return true;
	}
	return false;
}

/* Where code comes from is held to files that it may execute, or a profile gives. */
static __always_inline bool is_strict(const struct KernelAgent *a, unsigned long prot)
{
	return (prot & PROT_EXEC) && unlikely(a->flags & FLAG_STRICT);
}

/*
 * Whether a strict agent's code could come from this at all: from a regular file, which it cannot write to in the
 * same place. Memory of its own, memfd, shared memory and devices (a shared /dev/zero is memory, of which mremap()
 * makes a second mapping) are no file that a right is on.
 */
static __always_inline bool holds_code(struct file *f, unsigned long prot)
{
	return f && !passes(f) && !(prot & PROT_WRITE) && (f->f_inode->i_mode & S_IFMT) == S_IFREG;
}

/* What one of must be there for a mapping. */
static __always_inline __u32 to_map(bool strict)
{
	return strict ? RIGHT_EXEC | RIGHT_LOAD : RIGHT_READ | RIGHT_EXEC;
}

/* Memory without a file that is to be executable. */
static __noinline int maps_memory(void)
{
	struct KernelAgent *a = current_agent();

	return a && is_strict(a, PROT_EXEC) ? report_plain(a, FORBIDDEN(CODE_MEMORY, RIGHT_EXEC), 0) : 0;
}

SEC("lsm/mmap_file")
int BPF_PROG(mmap_file, struct file *f, unsigned long asked, unsigned long prot,
	     unsigned long flags)
{
	struct KernelAgent *a;
	__u32 all = 0;
	int verdict;
	bool strict;

	if (!f)
		return prot & PROT_EXEC ? maps_memory() : 0;
	a = current_agent();
	if (!a)
		return prot & PROT_EXEC ? outsider_runs(f) : 0;
	strict = is_strict(a, prot);
	if (strict && !holds_code(f, prot))
		return report_path(a, &f->f_path, FORBIDDEN(CODE_MEMORY, RIGHT_EXEC), 0);
	if ((prot & PROT_WRITE) && (flags & MAP_TYPE) != 2 /* MAP_PRIVATE */)
		all = RIGHT_WRITE;
	if (is_settled(a, f, all, &verdict))
		return verdict;
	if (may_map(a, f, all, to_map(strict)))
		return 0;
	return report_path(a, &f->f_path, DENIAL(MMAP_FILE, all ?: strict ? RIGHT_EXEC : RIGHT_READ), 0);
}

static __noinline int refuse_code(struct KernelAgent *a, struct file *f)
{
	return f ? report_dentry(a, f->f_path.dentry, mount_of(f->f_path.mnt), FORBIDDEN(CODE_MEMORY, RIGHT_EXEC), 0) :
		   report_plain(a, FORBIDDEN(CODE_MEMORY, RIGHT_EXEC), 0);
}

SEC("lsm/file_mprotect")
int BPF_PROG(file_mprotect, struct vm_area_struct *vma, unsigned long asked, unsigned long prot)
{
	struct KernelAgent *a = current_agent();
	struct file *f;
	__u32 all = 0;
	bool strict;

	if (!a)
		return 0;
	f = as(file, vma->vm_file);
	strict = is_strict(a, prot);
	/* A private page that was written is not the file's any more. */
	if (strict && (!holds_code(f, prot) || vma->anon_vma))
		return refuse_code(a, f);
	if (!f || !(prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) || passes(f))
		return 0;
	if ((prot & PROT_WRITE) && (vma->vm_flags & VM_SHARED))
		all = RIGHT_WRITE;
	if (!quarantined(a) && may_map(a, f, all, to_map(strict)))
		return 0;
	return report_dentry(a, f->f_path.dentry, mount_of(f->f_path.mnt),
			     DENIAL(FILE_MPROTECT, all ?: strict ? RIGHT_EXEC : RIGHT_READ), 0);
}

/* A descriptor that somebody handed over. */
SEC("lsm/file_receive")
int BPF_PROG(file_receive, struct file *f)
{
	struct KernelAgent *a = current_agent();
	__u32 all = 0, any = 0;

	if (!a || (f->f_mode & FMODE_PATH))
		return 0;
	if (passes(f) && !ends_errand(a, KEPT_DESCRIPTOR))
		return report_path(a, &f->f_path, DENIAL(FILE_RECEIVE, RIGHT_UNIX), 0);
	all = wanted_by_open(f, &any);
	return recheck(a, f, all, any, DENIAL(FILE_RECEIVE, all | any));
}

SEC("lsm/file_truncate")
int BPF_PROG(file_truncate, struct file *f)
{
	struct KernelAgent *a = current_agent();

	if (!a)
		return 0;
	return recheck(a, f, RIGHT_WRITE, 0, DENIAL(FILE_TRUNCATE, RIGHT_WRITE));
}

/*
 * What a regular file's or a folder's ioctl only reads or sets of the descriptor. The others may change the file
 * whatever it was opened for (FS_IOC_ENABLE_VERITY takes its writability for good): they take the right to write.
 * Of a terminal's, which begin with 'T', a file has none.
 */
static __always_inline bool reads_file(unsigned int cmd)
{
	switch (cmd) {
	case 1: /* FIBMAP */
	case 2: /* FIGETBSZ */
	case 0x80086601: /* FS_IOC_GETFLAGS */
	case 0x80046601: /* FS_IOC32_GETFLAGS */
	case 0x80087601: /* FS_IOC_GETVERSION */
	case 0x80047601: /* FS_IOC32_GETVERSION */
	case 0x801c581f: /* FS_IOC_FSGETXATTR */
	case 0x81009431: /* FS_IOC_GETFSLABEL */
	case 0x80111500: /* FS_IOC_GETFSUUID */
	case 0x80811501: /* FS_IOC_GETFSSYSFSPATH */
	case 0xc020660b: /* FS_IOC_FIEMAP */
	case 0xc0046686: /* FS_IOC_MEASURE_VERITY */
	case 0xc0286687: /* FS_IOC_READ_VERITY_METADATA */
		return true;
	}
	return (cmd >> 8 & 0xff) == 'T';
}

static __always_inline int ioctl(struct file *f, unsigned int cmd)
{
	struct KernelAgent *a = current_agent();
	__u32 kind;

	if (!a)
		return outsider_commands(f, cmd);
	/* Typing into somebody else's terminal is no use of a file. */
	if (cmd == TIOCSTI || cmd == TIOCLINUX)
		return report_path(a, &f->f_path, FORBIDDEN(FILE_IOCTL, cmd), 0);
	/* Is it a terminal, how much is there: asked of every standard file, also of one to append to. */
	if (cmd == TCGETS || cmd == TIOCGWINSZ || cmd == FIONREAD)
		return recheck(a, f, 0, RIGHTS_OPEN | RIGHT_APPEND, DENIAL(FILE_IOCTL, cmd));
	kind = f->f_inode->i_mode & S_IFMT;
	if ((kind == S_IFREG || kind == S_IFDIR) && !reads_file(cmd))
		return recheck(a, f, RIGHT_WRITE, 0, DENIAL(FILE_IOCTL_CHANGE, cmd));
	return recheck(a, f, 0, RIGHTS_OPEN, DENIAL(FILE_IOCTL, cmd));
}

SEC("lsm/file_ioctl")
int BPF_PROG(file_ioctl, struct file *f, unsigned int cmd, unsigned long arg)
{
	return ioctl(f, cmd);
}

SEC("lsm/file_ioctl_compat")
int BPF_PROG(file_ioctl_compat, struct file *f, unsigned int cmd, unsigned long arg)
{
	return ioctl(f, cmd);
}

/* A lock or a lease stops others: it takes a right to change the file, whatever kind of lock. */
static __always_inline int stops_others(struct file *f, __u64 what)
{
	struct KernelAgent *a = current_agent();

	if (!a)
		return 0;
	return recheck(a, f, 0, RIGHTS_CHANGE, what);
}

SEC("lsm/file_lock")
int BPF_PROG(file_lock, struct file *f, unsigned int kind)
{
	return kind == F_UNLCK ? 0 : stops_others(f, DENIAL(FILE_LOCK, RIGHT_WRITE));
}

/* Leases, delegations, and hints that are kept with the file and not with the descriptor. */
SEC("lsm/file_fcntl")
int BPF_PROG(file_fcntl, struct file *f, unsigned int cmd, unsigned long arg)
{
	if ((cmd == F_SETLEASE && arg != F_UNLCK) || cmd == F_SETDELEG || cmd == F_SET_RW_HINT ||
	    cmd == F_SET_FILE_RW_HINT)
		return stops_others(f, DENIAL(FILE_FCNTL, RIGHT_WRITE));
	return 0;
}
