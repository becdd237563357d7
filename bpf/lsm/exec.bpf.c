// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Programs: which may be started. */

/* The file is the one that was hashed. */
static __always_inline bool is_expected(struct KernelAgent *a, struct file *f)
{
	struct FileKey k;

	know(&k, f->f_inode->i_sb, f->f_inode);
	return (a->program.dev == k.dev && a->program.ino == k.ino) ||
	       (a->interpreter.dev == k.dev && a->interpreter.ino == k.ino);
}

/* Asked for the program, and once more for the interpreter of a script. */
SEC("lsm/bprm_check_security")
int BPF_PROG(bprm_check_security, struct linux_binprm *bprm)
{
	struct KernelAgent *a = current_agent();
	struct file *f = bprm->file;
	__u64 cover;

	if (!a)
		return 0;
	if (unlikely(quarantined(a)))
		return report_path(a, &f->f_path, DENIAL(QUARANTINE, 0), 0);
	/* A program without a path (memfd) can be covered by nothing. */
	if (passes(f))
		return report_path(a, &f->f_path, DENIAL(BPRM_CHECK, RIGHT_EXEC), 0);
	if (unlikely(a->flags & FLAG_EXPECT) && !is_expected(a, f))
		return report_path(a, &f->f_path, DENIAL(BPRM_CHECK, RIGHT_EXEC), 0);
	cover = cover_file(a, f, RIGHT_EXEC, 0);
	if (!enough(rights_of(cover), RIGHT_EXEC, 0))
		return report_path(a, &f->f_path, DENIAL(BPRM_CHECK, RIGHT_EXEC), 0);
	/* The kernel starts with both names equal and changes one of them for a script. */
	if (bprm->interp == bprm->filename)
		return report_path(a, &f->f_path, EXECUTED(BPRM_CHECK), ruling_of(cover));
	return 0;
}

/* The first program has been started: the next may be any that is covered. */
SEC("lsm/bprm_committed_creds")
int BPF_PROG(bprm_committed, const struct linux_binprm *bprm)
{
	struct KernelAgent *a = current_agent();

	if (!a) {
		if (unlikely(policy.gone_ns))
			admit(bprm);
		return 0;
	}
	if (unlikely(a->flags & FLAG_EXPECT)) {
		a->main = bpf_get_current_pid_tgid() >> 32;
		__sync_fetch_and_and(&a->flags, ~FLAG_EXPECT);
	}
	return 0;
}
