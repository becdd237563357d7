/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The daemon's own folders: the log, its keys, agents' output, what the next daemon needs to know. Once the seal is
 * closed nobody else changes what lies in them, under any name, nor puts others in their places; reading is free.
 */
#pragma once

static __always_inline bool has_own(struct super_block *sb)
{
	__u32 dev = sb->s_dev;
	int i;

	for (i = 0; i < OWN_DEVICES; i++) {
		if (policy.own_devices[i] == dev)
			return true;
	}
	return false;
}

/* It is one of them, or lies in one. A global function, verified once. */
__noinline int lies_in_own(struct dentry *d __arg_untrusted)
{
	int i;

	bpf_for(i, 0, MAX_DEPTH) {
		struct dentry *up = as(dentry, d->d_parent);
		struct inode *inode = d->d_inode;

		if (inode) {
			struct FileKey k;
			int n;

			know(&k, d->d_sb, inode);
			for (n = 0; n < OWN_FOLDERS; n++) {
				if (policy.own[n].ino == k.ino && policy.own[n].dev == k.dev)
					return 1;
			}
		}
		if (d == up)
			/* Opened by its number alone: nobody knows where it lies. */
			return d != d->d_sb->s_root;
		d = up;
	}
	return 0;
}

/* It is a folder on the way to one of them. A global function, verified once. */
__noinline int leads_to_own(struct dentry *d __arg_untrusted)
{
	struct inode *inode = d->d_inode;
	struct FileKey k;
	int i;

	if (!inode)
		return 0;
	know(&k, d->d_sb, inode);
	bpf_for(i, 0, OWN_ABOVE) {
		if (policy.own_above[i & (OWN_ABOVE - 1)].ino == k.ino &&
		    policy.own_above[i & (OWN_ABOVE - 1)].dev == k.dev)
			return 1;
	}
	return 0;
}

/* Character devices that hand those disks commands as they are. */
static __noinline bool is_own_passthrough(dev_t dev)
{
	int i;

	bpf_for(i, 0, OWN_PASSTHROUGH) {
		if (dev && policy.own_passthrough[i & (OWN_PASSTHROUGH - 1)] == dev)
			return true;
	}
	return false;
}

/* The disks beneath them, and the partitions of those that they lie on. */
static __noinline bool is_own_disk(dev_t dev)
{
	int i;

	bpf_for(i, 0, OWN_DISKS) {
		if (dev && policy.own_disks[i & (OWN_DISKS - 1)] == dev)
			return true;
	}
	return false;
}
