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

/* The use that its open was (wanted_by_open), or another where that took none. The rule, or 0. */
static __noinline __u64 run_by_use(struct KernelAgent *a, struct file *f)
{
	if (used_on(a, f, 0, RIGHT_EXEC, 0))
		return ruling_of(cover_to_see(a, &f->f_path, RIGHT_EXEC, 0));
	return open_by_use(a, f, RIGHT_EXEC);
}

/* Asked for the program, and once more for the interpreter of a script. */
SEC("lsm/bprm_check_security")
int BPF_PROG(bprm_check_security, struct linux_binprm *bprm)
{
	struct KernelAgent *a = current_agent();
	struct file *f = bprm->file;
	__u64 cover, by;

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
	by = enough(rights_of(cover), RIGHT_EXEC, 0) ? ruling_of(cover) : run_by_use(a, f);
	if (!by && !enough(rights_of(cover), RIGHT_EXEC, 0))
		return report_path(a, &f->f_path, DENIAL(BPRM_CHECK, RIGHT_EXEC), 0);
	/* The kernel starts with both names equal and changes one of them for a script. */
	if (bprm->interp == bprm->filename)
		return report_path(a, &f->f_path, EXECUTED(BPRM_CHECK), by);
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
