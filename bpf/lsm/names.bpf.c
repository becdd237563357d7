// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Names and attributes: what is made, removed, renamed, looked at or changed by path. */

/* Decides on `path` itself. */
static __always_inline int decide_path(struct KernelAgent *a, const struct path *path, __u32 all,
				       __u64 what)
{
	struct TakenFile t = {};
	__u64 cover, by;

	if (unlikely(quarantined(a)))
		return report_path(a, path, DENIAL(QUARANTINE, 0), 0);
	if (is_control_fs(path->dentry->d_sb->s_magic))
		return report_path(a, path, DENIAL(CGROUP_WRITE, all), 0);
	/* The mode of what is no process's is one for every /proc. */
	if (path->dentry->d_sb->s_magic == PROC_MAGIC && is_machines(as(dentry, path->dentry), true))
		return report_path(a, path, DENIAL(PROC_READ, all), 0);
	cover = cover_path(a, path, all, 0);
	if (enough(rights_of(cover), all, 0))
		return 0;
	by = change_by_use(a, path->dentry, mount_of(path->mnt), missing(cover, all, 0), &t);
	if (by)
		return recorded(&t, report_path(a, path, as_use(what), by));
	return report_path(a, path, what, 0);
}

/* How a name is to be changed, and by what. */
struct change {
	/* Rights that are wanted, as for walk(). */
	__u32 all_any;
	__u32 reserved;
	/* The use that allowed it and its rule; 0 for none. */
	__u64 by;
	struct TakenFile use;
};

/* What is to be reported of a name in a directory, 0 if it may; without an inode the directory decides. */
static __noinline __u64 judge_name(struct KernelAgent *a, const struct path *dir, struct dentry *d,
				   struct change *c, __u64 what)
{
	__u32 all = c->all_any & 0xff, any = c->all_any >> 8 & 0xff;
	__u64 cover;

	if (unlikely(quarantined(a)))
		return DENIAL(QUARANTINE, 0);
	if (is_control_fs(dir->dentry->d_sb->s_magic))
		return DENIAL(CGROUP_WRITE, all);
	cover = cover_name(a, dir, d, c->all_any);
	if (enough(rights_of(cover), all, any))
		return 0;
	c->by = change_by_use(a, d, mount_of(dir->mnt), missing(cover, all, any), &c->use);
	return c->by ? as_use(what) : what;
}

/* `c` may have served another name: the stack is small. */
static __always_inline int decide_change(struct KernelAgent *a, const struct path *dir, struct dentry *d,
					 struct change *c, __u64 what)
{
	c->by = 0;
	c->use.uses[0].id = c->use.uses[1].id = 0;
	what = judge_name(a, dir, d, c, what);
	if (!what)
		return 0;
	return recorded(&c->use, report_name(a, dir, d, what, c->by));
}

static __always_inline int decide_name(struct KernelAgent *a, const struct path *dir,
				       struct dentry *d, __u32 all, __u32 any, __u64 what)
{
	struct change c = { .all_any = BOTH(all, any) };

	return decide_change(a, dir, d, &c, what);
}

/* A file is made by a use: opening it belongs to that. */
static __noinline int make_by_use(struct KernelAgent *a, const struct path *dir, struct dentry *d,
				  struct change *c, __u64 what)
{
	int verdict = recorded(&c->use, report_name(a, dir, d, what, c->by));

	/* Where there is no room for it the open takes one of its own. */
	if (!verdict)
		expect_use(d, &c->use.uses[0], c->by);
	return verdict;
}

/* Without this check a refused O_CREAT would leave an empty file behind. */
SEC("lsm/path_mknod")
int BPF_PROG(path_mknod, const struct path *dir, struct dentry *d, umode_t mode, unsigned int dev)
{
	struct KernelAgent *a = current_agent();
	struct change c = { .all_any = RIGHT_CREATE };
	__u32 kind = mode & S_IFMT;
	__u64 what;

	settle_own_moves(false);
	if (!a)
		return outsider_names(dir, d);
	report_left(a);
	if (kind == S_IFCHR || kind == S_IFBLK)
		return report_name(a, dir, d, FORBIDDEN(PATH_MKNOD, RIGHT_CREATE), 0);
	what = judge_name(a, dir, d, &c, DENIAL(PATH_MKNOD, RIGHT_CREATE));
	if (!what)
		return 0;
	if (c.by)
		return make_by_use(a, dir, d, &c, what);
	if (as(dentry, d)->d_flags & bpf_core_enum_value(enum dentry_flags, DCACHE_PAR_LOOKUP))
		return suspect_name(dir, d, what);
	return report_name(a, dir, d, what, 0);
}

/* Whether the open failed for what path_mknod answered. */
static __always_inline int opened(long result)
{
	struct KernelAgent *a = current_agent();
	struct suspect *p;

	if (!a)
		return 0;
	p = bpf_task_storage_get(&suspects, bpf_get_current_task_btf(), NULL, 0);
	if (!p || !p->what)
		return 0;
	if (result == -EACCES)
		report_suspect(a, p);
	p->what = 0;
	return 0;
}

SEC("fexit/do_file_open")
int BPF_PROG(file_opened, int dir, struct filename *name, const struct open_flags *op,
	     struct file *result)
{
	return opened((long)result);
}

/* Its name before 7.2. */
SEC("fexit/do_filp_open")
int BPF_PROG(filp_opened, int dir, struct filename *name, const struct open_flags *op,
	     struct file *result)
{
	return opened((long)result);
}

SEC("lsm/path_mkdir")
int BPF_PROG(path_mkdir, const struct path *dir, struct dentry *d, umode_t mode)
{
	struct KernelAgent *a = current_agent();

	settle_own_moves(false);
	if (!a)
		return outsider_names(dir, d);
	return decide_name(a, dir, d, RIGHT_CREATE, 0, DENIAL(PATH_MKDIR, RIGHT_CREATE));
}

SEC("lsm/path_symlink")
int BPF_PROG(path_symlink, const struct path *dir, struct dentry *d, const char *target)
{
	struct KernelAgent *a = current_agent();

	if (!a)
		return outsider_names(dir, d);
	return decide_name(a, dir, d, RIGHT_CREATE, 0, DENIAL(PATH_SYMLINK, RIGHT_CREATE));
}

SEC("lsm/path_unlink")
int BPF_PROG(path_unlink, const struct path *dir, struct dentry *d)
{
	struct KernelAgent *a = current_agent();

	settle_own_moves(false);
	if (!a)
		return outsider_names(dir, d);
	return decide_name(a, dir, d, RIGHT_DELETE, 0, DENIAL(PATH_UNLINK, RIGHT_DELETE));
}

SEC("lsm/path_rmdir")
int BPF_PROG(path_rmdir, const struct path *dir, struct dentry *d)
{
	struct KernelAgent *a = current_agent();

	settle_own_moves(false);
	if (!a)
		return outsider_names(dir, d);
	return decide_name(a, dir, d, RIGHT_DELETE, 0, DENIAL(PATH_RMDIR, RIGHT_DELETE));
}

/* What a name gives: by rules that are not counted, and in bits 8-15 by any. */
static __noinline __u32 given_by_name(struct KernelAgent *a, const struct path *dir, struct dentry *d)
{
	__u32 plain = rights_of(cover_name(a, dir, d, RIGHTS_ALL)) & 0xff;

	if (!any_counted())
		return plain;
	return plain | (rights_of(cover_name(a, dir, d, RIGHTS_ALL | WANT_COUNTED)) & 0xff) << 8;
}

/* A file must not gain, at its new place, a right that it lacks at its old one. */
static __always_inline bool would_gain(struct KernelAgent *a, const struct path *old_dir,
				       struct dentry *old, const struct path *new_dir,
				       struct dentry *new)
{
	__u32 before = given_by_name(a, old_dir, old), after = given_by_name(a, new_dir, new);

	return after & ~before & BOTH(RIGHTS_OPEN, RIGHTS_OPEN);
}

/* The refusal of a name that would give more than the old one does: what may be read may be copied instead. */
static __always_inline __u64 not_across(struct KernelAgent *a, const struct path *dir, struct dentry *old, __u64 what)
{
	return rights_of(cover_name(a, dir, old, RIGHT_READ)) & RIGHT_READ ? what | AS_EXDEV : what;
}

/* Whether `d` lies at or below `top`, within one file system. A global function, verified once. */
__noinline int lies_below(struct dentry *d __arg_untrusted, struct dentry *top __arg_untrusted)
{
	int i;

	bpf_for(i, 0, MAX_DEPTH) {
		struct dentry *up = d->d_parent;

		if (d == top)
			return 1;
		if (d == up)
			return 0;
		d = as(dentry, up);
	}
	/* Too deep to tell: rather void what need not be. */
	return 0;
}

/*
 * Whether all that covers the new name of a file covers its old one, too: what is on the way up from the nearest
 * folder with rules must be above both. Else the file would stay where the right to its old name is revoked.
 * A global function, verified once.
 */
__noinline int covered_alike(__u64 list, struct dentry *from __arg_untrusted, struct dentry *old __arg_untrusted)
{
	int i;

	bpf_for(i, 0, MAX_DEPTH) {
		struct inode *inode = from->d_inode;
		struct dentry *up = from->d_parent;

		if (inode) {
			struct FileKey k;
			__u32 number = 0;
			struct FileNode *n;

			know(&k, from->d_sb, inode);
			n = node_of(&k, &number);
			if (n && n->sets &&
			    rights_of(add_sets(list, number, n->sets, 0, RIGHTS_ALL | WANT_BELOW | WANT_COUNTED)))
				return lies_below(old, from);
		}
		/* What is above the file system is above both names: a link stays on one mount. */
		if (from == up)
			return 1;
		from = as(dentry, up);
	}
	return 0;
}

SEC("lsm/path_link")
int BPF_PROG(path_link, struct dentry *old, const struct path *dir, struct dentry *new)
{
	struct KernelAgent *a = current_agent();
	int refused;

	settle_own_moves(false);
	if (!a)
		return outsider_names(dir, new) ?: outsider_alters(old, BROKEN_SEAL(PATH_LINK, RIGHT_CREATE));
	refused = decide_name(a, dir, new, RIGHT_CREATE, 0, DENIAL(PATH_LINK, RIGHT_CREATE));
	if (refused)
		return refused;
	/* link(2) stays on one mount, so the directory's serves the old name too. */
	if (would_gain(a, dir, old, dir, new) ||
	    !covered_alike(a->list, as(dentry, dir->dentry), as(dentry, old)))
		return report_dentry(a, old, mount_of(dir->mnt),
				     not_across(a, dir, old, DENIAL(PATH_LINK, RIGHT_READ)), 0);
	return 0;
}

SEC("lsm/path_rename")
int BPF_PROG(path_rename, const struct path *old_dir, struct dentry *old,
	     const struct path *new_dir, struct dentry *new, unsigned int flags)
{
	struct KernelAgent *a = current_agent();
	bool swap = flags & RENAME_EXCHANGE;
	__u32 all = swap ? RIGHT_CREATE | RIGHT_DELETE : RIGHT_DELETE;
	struct change c = {};
	int refused;

	settle_own_moves(false);
	if (!a)
		return outsider_names(old_dir, old) ?: outsider_names(new_dir, new);
	c.all_any = all;
	refused = decide_change(a, old_dir, old, &c, DENIAL(PATH_RENAME, all));
	if (refused)
		return refused;
	all = swap ? RIGHT_CREATE | RIGHT_DELETE : RIGHT_CREATE;
	/* What is replaced is lost: that takes the right to delete it or to overwrite it. */
	c.all_any = BOTH(all, as(dentry, new)->d_inode ? RIGHT_DELETE | RIGHT_WRITE : 0);
	refused = decide_change(a, new_dir, new, &c, DENIAL(PATH_RENAME, all));
	if (refused)
		return refused;
	if (would_gain(a, old_dir, old, new_dir, new) ||
	    (swap && would_gain(a, new_dir, new, old_dir, old)))
		return report_name(a, new_dir, new,
				   not_across(a, old_dir, old, DENIAL(PATH_RENAME, RIGHTS_OPEN)), 0);
	return 0;
}

/*
 * What has moved from below `from` to below `to` is no longer covered by what lies above the one
 * and not the other: whether there is such, and, asked to, voids verdicts that rest on these files. All others, and
 * those of everybody who renames within one folder, stay.
 */
__noinline int leaves(struct dentry *from __arg_untrusted, struct dentry *to __arg_untrusted, bool voids)
{
	int i, left = 0;

	bpf_for(i, 0, MAX_DEPTH) {
		struct inode *inode = from->d_inode;
		struct dentry *up = from->d_parent;

		if (inode) {
			struct FileKey k;
			__u32 number = 0;
			struct FileNode *n;

			know(&k, from->d_sb, inode);
			n = node_of(&k, &number);

			if (n && n->sets) {
				if (lies_below(to, from))
					return left;
				left = 1;
				if (voids)
					void_file(number);
			}
		}
		if (from == up)
			return left;
		from = as(dentry, up);
	}
	return left;
}

/* Before the rename, of whatever caller: see moves.h. */
SEC("lsm/inode_rename")
int BPF_PROG(rename_begins, struct inode *old_dir, struct dentry *old, struct inode *new_dir, struct dentry *new)
{
	struct dentry *from, *to;

	if (old_dir == new_dir)
		return 0;
	from = as(dentry, as(dentry, old)->d_parent);
	to = as(dentry, as(dentry, new)->d_parent);
	/* Who moves what nobody has by another folder's rule makes nobody else slow. */
	if (leaves(from, to, false) || leaves(to, from, false))
		move_begins(old_dir->i_sb);
	return 0;
}

/* After the rename: what was remembered before rests on where things were. */
SEC("fexit/vfs_rename")
int BPF_PROG(renamed, struct renamedata *rd, int result)
{
	struct dentry *from, *to;

	if (!bpf_core_field_exists(rd->old_parent)) {
		void_verdicts();
		settle_moves(bpf_get_current_task_btf(), false);
		return 0;
	}
	from = as(dentry, rd->old_parent);
	to = as(dentry, rd->new_parent);
	if (from == to)
		return 0;
	if (!result) {
		leaves(from, to, true);
		if (rd->flags & RENAME_EXCHANGE)
			leaves(to, from, true);
	}
	move_ends(from->d_sb);
	return 0;
}

SEC("lsm/path_truncate")
int BPF_PROG(path_truncate, const struct path *path)
{
	struct KernelAgent *a = current_agent();

	if (!a)
		return 0;
	return decide_path(a, path, RIGHT_WRITE, DENIAL(PATH_TRUNCATE, RIGHT_WRITE));
}

SEC("lsm/path_chmod")
int BPF_PROG(path_chmod, const struct path *path, umode_t mode)
{
	struct KernelAgent *a = current_agent();

	if (!a)
		return 0;
	return decide_path(a, path, RIGHT_WRITE, DENIAL(PATH_CHMOD, RIGHT_WRITE));
}

SEC("lsm/path_chown")
int BPF_PROG(path_chown, const struct path *path, unsigned int uid, unsigned int gid)
{
	struct KernelAgent *a = current_agent();

	if (!a)
		return 0;
	return decide_path(a, path, RIGHT_WRITE, DENIAL(PATH_CHOWN, RIGHT_WRITE));
}

/* inotify and fanotify tell the names in a directory. */
SEC("lsm/path_notify")
int BPF_PROG(path_notify, const struct path *path, __u64 mask, unsigned int type)
{
	struct KernelAgent *a = current_agent();

	if (!a)
		return 0;
	if (!quarantined(a) && may_keep(a, path, RIGHT_READ, KEPT_WATCH))
		return 0;
	return report_path(a, path, DENIAL(PATH_NOTIFY, RIGHT_READ), 0);
}

/* A symbolic link in a directory on the way to something granted may be looked at. */
static __always_inline bool is_signpost(struct KernelAgent *a, struct dentry *d)
{
	struct inode *inode = d->d_inode;
	struct FileKey k = {};
	struct dentry *up;
	__u32 number = 0;

	if (!inode || (inode->i_mode & S_IFMT) != S_IFLNK)
		return false;
	up = as(dentry, d->d_parent);
	inode = up->d_inode;
	if (!inode)
		return false;
	know(&k, up->d_sb, inode);
	return node_of(&k, &number) &&
	       (add_sets(a->list, number, 0, 0, RIGHT_TRAVERSE) & RIGHT_TRAVERSE);
}

SEC("lsm/inode_getattr")
int BPF_PROG(inode_getattr, const struct path *path)
{
	struct KernelAgent *a = current_agent();
	const __u32 any = RIGHTS_ALL | RIGHT_TRAVERSE;

	if (!a)
		return tell_daemon(path);
	if (unlikely(quarantined(a)))
		return report_path(a, path, DENIAL(QUARANTINE, 0), 0);
	if (is_internal(path))
		return 0;
	if (enough(rights_of(cover_to_see(a, path, 0, any)), 0, any) ||
	    is_signpost(a, as(dentry, path->dentry)))
		return 0;
	return report_path(a, path, DENIAL(INODE_GETATTR, RIGHT_TRAVERSE), 0);
}

/*
 * The hooks below know a dentry but no mount. A file system that works on another one's behalf
 * (overlayfs) does so with the credentials of who mounted it; it was asked before already. Other
 * credentials than the task's own are not enough: a worker of io_uring has the submitter's, which
 * may be older than its own. Only those with a privilege count: no agent's have one.
 */
static __always_inline bool on_behalf(void)
{
	struct task_struct *me = bpf_get_current_task_btf();

	return me->cred != me->real_cred && me->cred->cap_effective.val;
}

/* Without a mount only rules within the file system count. */
static __noinline int change_dentry(struct KernelAgent *a, struct dentry *d, __u32 wanted, __u64 what)
{
	struct TakenFile t = {};
	__u64 by = change_by_use(a, d, NULL, wanted, &t);

	return by ? recorded(&t, report_dentry(a, d, NULL, as_use(what), by)) : report_dentry(a, d, NULL, what, 0);
}

/* To change something takes `all`; to see it one of `any`. */
static __always_inline int decide_dentry(struct dentry *d, __u32 all, __u32 any, __u64 what)
{
	struct KernelAgent *a = current_agent();
	__u64 cover;

	if (!a)
		return all ? outsider_alters(d, BROKEN_SEAL(INODE_SETATTR, RIGHT_WRITE)) : 0;
	if (on_behalf())
		return 0;
	d = as(dentry, d);
	if (d->d_sb->s_flags & SB_KERNMOUNT)
		return 0;
	if (quarantined(a) || (all && is_control_fs(d->d_sb->s_magic)))
		return report_dentry(a, d, NULL, what, 0);
	cover = cover_dentry(a, d, all ? all : BOTH(0, any) | WANT_COUNTED);
	if (enough(rights_of(cover), all, any) || (!all && is_signpost(a, d)))
		return 0;
	return all ? change_dentry(a, d, missing(cover, all, 0), what) : report_dentry(a, d, NULL, what, 0);
}

SEC("lsm/inode_setattr")
int BPF_PROG(inode_setattr, struct mnt_idmap *idmap, struct dentry *d, struct iattr *attr)
{
	/* Mode, owner and size were decided by path; what is left are the times. */
	if ((attr->ia_valid & (ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_SIZE)) && current_agent())
		return 0;
	return decide_dentry(d, RIGHT_WRITE, 0, DENIAL(INODE_SETATTR, RIGHT_WRITE));
}

SEC("lsm/inode_file_setattr")
int BPF_PROG(inode_file_setattr, struct dentry *d, struct file_kattr *attr)
{
	return decide_dentry(d, RIGHT_WRITE, 0, DENIAL(INODE_SETATTR, RIGHT_WRITE));
}

SEC("lsm/inode_setxattr")
int BPF_PROG(inode_setxattr, struct mnt_idmap *idmap, struct dentry *d, const char *name)
{
	return decide_dentry(d, RIGHT_WRITE, 0, DENIAL(INODE_XATTR, RIGHT_WRITE));
}

SEC("lsm/inode_removexattr")
int BPF_PROG(inode_removexattr, struct mnt_idmap *idmap, struct dentry *d, const char *name)
{
	return decide_dentry(d, RIGHT_WRITE, 0, DENIAL(INODE_XATTR, RIGHT_WRITE));
}

SEC("lsm/inode_set_acl")
int BPF_PROG(inode_set_acl, struct mnt_idmap *idmap, struct dentry *d, const char *name)
{
	return decide_dentry(d, RIGHT_WRITE, 0, DENIAL(INODE_XATTR, RIGHT_WRITE));
}

SEC("lsm/inode_remove_acl")
int BPF_PROG(inode_remove_acl, struct mnt_idmap *idmap, struct dentry *d, const char *name)
{
	return decide_dentry(d, RIGHT_WRITE, 0, DENIAL(INODE_XATTR, RIGHT_WRITE));
}

SEC("lsm/inode_getxattr")
int BPF_PROG(inode_getxattr, struct dentry *d, const char *name)
{
	return decide_dentry(d, 0, RIGHTS_ALL | RIGHT_TRAVERSE, DENIAL(INODE_XATTR, RIGHT_READ));
}

SEC("lsm/inode_listxattr")
int BPF_PROG(inode_listxattr, struct dentry *d)
{
	return decide_dentry(d, 0, RIGHTS_ALL | RIGHT_TRAVERSE, DENIAL(INODE_XATTR, RIGHT_READ));
}

SEC("lsm/inode_readlink")
int BPF_PROG(inode_readlink, struct dentry *d)
{
	return decide_dentry(d, 0, RIGHTS_ALL | RIGHT_TRAVERSE, DENIAL(INODE_READLINK, RIGHT_READ));
}

SEC("lsm/inode_get_acl")
int BPF_PROG(inode_get_acl, struct mnt_idmap *idmap, struct dentry *d, const char *name)
{
	return decide_dentry(d, 0, RIGHTS_ALL | RIGHT_TRAVERSE, DENIAL(INODE_XATTR, RIGHT_READ));
}

/* How large and how full a file system is, by a file on it. */
SEC("lsm/sb_statfs")
int BPF_PROG(sb_statfs, struct dentry *d)
{
	return decide_dentry(d, 0, RIGHTS_ALL | RIGHT_TRAVERSE, DENIAL(SB_STATFS, RIGHT_READ));
}
