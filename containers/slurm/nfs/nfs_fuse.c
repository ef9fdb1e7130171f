/*
 * An NFSv3 client in user space, for kernels that have none: nfs_fuse SERVER:/EXPORT DIRECTORY
 *
 * Every operation goes to the server as the user who asked for it (AUTH_SYS), so that the server alone decides who
 * may do what, as with the kernel's client. Nothing is kept here but open file handles. A server that is away makes
 * callers wait, as a hard mount does. Locks are local to the node.
 *
 * libnfs's calls are not thread-safe: FUSE runs single-threaded.
 */
#define FUSE_USE_VERSION 317
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw-nfs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <unistd.h>

/* AUTH_SYS carries at most 16 groups besides the first (RFC 5531, appendix A). */
#define GROUPS_MAX 16

static struct nfs_context *nfs;

/* Let the next call go out as the user behind the current request. */
static void become_caller(void)
{
	static uid_t last_uid = 0;
	static gid_t last_gid = 0;
	static uint32_t last_groups[GROUPS_MAX];
	static int last_count = 0;
	struct fuse_context *caller = fuse_get_context();
	gid_t groups[GROUPS_MAX];
	uint32_t sent[GROUPS_MAX];
	int count = fuse_getgroups(GROUPS_MAX, groups);

	if (count < 0)
		count = 0;
	if (count > GROUPS_MAX)
		count = GROUPS_MAX;
	for (int i = 0; i < count; i++)
		sent[i] = groups[i];
	if (caller->uid == last_uid && caller->gid == last_gid && count == last_count &&
	    !memcmp(sent, last_groups, sizeof(sent[0]) * count))
		return;
	nfs_set_uid(nfs, caller->uid);
	nfs_set_gid(nfs, caller->gid);
	nfs_set_auxiliary_gids(nfs, count, sent);
	last_uid = caller->uid;
	last_gid = caller->gid;
	last_count = count;
	memcpy(last_groups, sent, sizeof(sent[0]) * count);
}

static struct nfsfh *handle_of(struct fuse_file_info *file)
{
	return file ? (struct nfsfh *)(uintptr_t)file->fh : NULL;
}

static void to_stat(const struct nfs_stat_64 *from, struct stat *to)
{
	memset(to, 0, sizeof(*to));
	to->st_ino = from->nfs_ino;
	to->st_mode = from->nfs_mode;
	to->st_nlink = from->nfs_nlink;
	to->st_uid = from->nfs_uid;
	to->st_gid = from->nfs_gid;
	to->st_rdev = from->nfs_rdev;
	to->st_size = from->nfs_size;
	to->st_blksize = from->nfs_blksize;
	to->st_blocks = from->nfs_blocks;
	to->st_atim = (struct timespec){from->nfs_atime, from->nfs_atime_nsec};
	to->st_mtim = (struct timespec){from->nfs_mtime, from->nfs_mtime_nsec};
	to->st_ctim = (struct timespec){from->nfs_ctime, from->nfs_ctime_nsec};
}

static int do_getattr(const char *path, struct stat *status, struct fuse_file_info *file)
{
	struct nfs_stat_64 found;
	int rc;

	become_caller();
	rc = file ? nfs_fstat64(nfs, handle_of(file), &found) : nfs_lstat64(nfs, path, &found);
	if (!rc)
		to_stat(&found, status);
	return rc;
}

static int do_access(const char *path, int mode)
{
	become_caller();
	return nfs_access(nfs, path, mode);
}

static int do_readlink(const char *path, char *target, size_t size)
{
	become_caller();
	return nfs_readlink(nfs, path, target, (int)size);
}

static int do_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset,
		      struct fuse_file_info *file, enum fuse_readdir_flags flags)
{
	struct nfsdir *directory;
	struct nfsdirent *entry;
	int rc;

	(void)offset;
	(void)file;
	(void)flags;
	become_caller();
	rc = nfs_opendir(nfs, path, &directory);
	if (rc)
		return rc;
	while ((entry = nfs_readdir(nfs, directory))) {
		struct stat status = {.st_ino = entry->inode, .st_mode = entry->mode};

		if (fill(buffer, entry->name, &status, 0, 0))
			break;
	}
	nfs_closedir(nfs, directory);
	return 0;
}

static int do_mknod(const char *path, mode_t mode, dev_t device)
{
	become_caller();
	return nfs_mknod(nfs, path, (int)mode, (int)device);
}

static int do_mkdir(const char *path, mode_t mode)
{
	become_caller();
	return nfs_mkdir2(nfs, path, (int)(mode & 07777));
}

static int do_unlink(const char *path)
{
	become_caller();
	return nfs_unlink(nfs, path);
}

static int do_rmdir(const char *path)
{
	become_caller();
	return nfs_rmdir(nfs, path);
}

static int do_symlink(const char *target, const char *path)
{
	become_caller();
	return nfs_symlink(nfs, target, path);
}

static int do_rename(const char *from, const char *to, unsigned int flags)
{
	if (flags)
		return -EINVAL; /* NFS has neither RENAME_NOREPLACE nor RENAME_EXCHANGE */
	become_caller();
	return nfs_rename(nfs, from, to);
}

static int do_link(const char *from, const char *to)
{
	become_caller();
	return nfs_link(nfs, from, to);
}

static int do_chmod(const char *path, mode_t mode, struct fuse_file_info *file)
{
	become_caller();
	return file ? nfs_fchmod(nfs, handle_of(file), (int)(mode & 07777))
		    : nfs_chmod(nfs, path, (int)(mode & 07777));
}

static int do_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *file)
{
	struct nfs_stat_64 found;
	int rc;

	become_caller();
	/* (uid_t)-1 leaves an id; libnfs has no such value. */
	rc = file ? nfs_fstat64(nfs, handle_of(file), &found) : nfs_lstat64(nfs, path, &found);
	if (rc)
		return rc;
	if (uid == (uid_t)-1)
		uid = (uid_t)found.nfs_uid;
	if (gid == (gid_t)-1)
		gid = (gid_t)found.nfs_gid;
	return file ? nfs_fchown(nfs, handle_of(file), (int)uid, (int)gid)
		    : nfs_lchown(nfs, path, (int)uid, (int)gid);
}

static int do_truncate(const char *path, off_t size, struct fuse_file_info *file)
{
	become_caller();
	return file ? nfs_ftruncate(nfs, handle_of(file), (uint64_t)size) : nfs_truncate(nfs, path, (uint64_t)size);
}

static int do_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *file)
{
	struct nfs_stat_64 found;
	struct timeval now, wanted[2];
	int rc;

	(void)file;
	become_caller();
	rc = nfs_lstat64(nfs, path, &found);
	if (rc)
		return rc;
	gettimeofday(&now, NULL);
	for (int i = 0; i < 2; i++) {
		if (times[i].tv_nsec == UTIME_NOW) {
			wanted[i] = now;
		} else if (times[i].tv_nsec == UTIME_OMIT) {
			wanted[i].tv_sec = (time_t)(i ? found.nfs_mtime : found.nfs_atime);
			wanted[i].tv_usec = (suseconds_t)((i ? found.nfs_mtime_nsec : found.nfs_atime_nsec) / 1000);
		} else {
			wanted[i].tv_sec = times[i].tv_sec;
			wanted[i].tv_usec = times[i].tv_nsec / 1000;
		}
	}
	return nfs_lutimes(nfs, path, wanted);
}

static int open_as_caller(const char *path, int flags, int mode, struct fuse_file_info *file)
{
	struct nfsfh *handle;
	int rc;

	become_caller();
	/* The kernel gives every write its offset, and must be able to read the page around a partial one. */
	rc = nfs_open2(nfs, path, flags & ~(O_APPEND | O_NOFOLLOW), mode, &handle);
	if (!rc)
		file->fh = (uint64_t)(uintptr_t)handle;
	return rc;
}

static int do_open(const char *path, struct fuse_file_info *file)
{
	return open_as_caller(path, file->flags & ~(O_CREAT | O_EXCL), 0, file);
}

static int do_create(const char *path, mode_t mode, struct fuse_file_info *file)
{
	return open_as_caller(path, file->flags | O_CREAT, (int)(mode & 07777), file);
}

static int do_read(const char *path, char *buffer, size_t size, off_t offset, struct fuse_file_info *file)
{
	(void)path;
	become_caller();
	return nfs_pread(nfs, handle_of(file), (uint64_t)offset, size, buffer);
}

static int do_write(const char *path, const char *buffer, size_t size, off_t offset, struct fuse_file_info *file)
{
	(void)path;
	become_caller();
	return nfs_pwrite(nfs, handle_of(file), (uint64_t)offset, size, (void *)buffer);
}

static int do_fsync(const char *path, int data_only, struct fuse_file_info *file)
{
	(void)path;
	(void)data_only;
	become_caller();
	return nfs_fsync(nfs, handle_of(file));
}

static int do_release(const char *path, struct fuse_file_info *file)
{
	(void)path;
	return nfs_close(nfs, handle_of(file));
}

static int do_statfs(const char *path, struct statvfs *status)
{
	become_caller();
	return nfs_statvfs(nfs, path, status);
}

static void *do_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
	(void)connection;
	/* Other nodes change files, too: believe what was read for a second, and drop it when the file changed. */
	config->use_ino = 1;
	config->entry_timeout = 1;
	config->attr_timeout = 1;
	config->negative_timeout = 0;
	config->auto_cache = 1;
	config->nullpath_ok = 0;
	return NULL;
}

static const struct fuse_operations operations = {
	.init = do_init,
	.getattr = do_getattr,
	.access = do_access,
	.readlink = do_readlink,
	.readdir = do_readdir,
	.mknod = do_mknod,
	.mkdir = do_mkdir,
	.unlink = do_unlink,
	.rmdir = do_rmdir,
	.symlink = do_symlink,
	.rename = do_rename,
	.link = do_link,
	.chmod = do_chmod,
	.chown = do_chown,
	.truncate = do_truncate,
	.utimens = do_utimens,
	.open = do_open,
	.create = do_create,
	.read = do_read,
	.write = do_write,
	.fsync = do_fsync,
	.release = do_release,
	.statfs = do_statfs,
};

int main(int argc, char **argv)
{
	char options[4096], source[1024];
	char *mount_options[] = {argv[0], "-s", "-o", options, NULL, NULL};
	char *export;

	/* Two more words make the mount look like another one: what it is mounted from, and its type. */
	if ((argc != 3 && argc != 5) || !(export = strstr(argv[1], ":/")) || strchr(argv[1], ',') ||
	    (argc == 5 && (strchr(argv[3], ',') || strchr(argv[4], ','))) || strlen(argv[1]) >= sizeof(source)) {
		fprintf(stderr, "usage: nfs_fuse SERVER:/EXPORT DIRECTORY [SOURCE TYPE]\n");
		return 1;
	}
	strcpy(source, argv[1]);
	source[export - argv[1]] = '\0';
	nfs = nfs_init_context();
	if (!nfs) {
		fprintf(stderr, "nfs_fuse: no memory\n");
		return 32;
	}
	nfs_set_version(nfs, NFS_V3);
	nfs_set_dircache(nfs, 0);
	nfs_set_timeout(nfs, 15000);
	if (nfs_mount(nfs, source, export + 1)) {
		fprintf(stderr, "nfs_fuse: %s\n", nfs_get_error(nfs));
		return 32; /* mount(8): mount failure */
	}
	/* From here on a server that went away is waited for. */
	nfs_set_timeout(nfs, -1);
	nfs_set_autoreconnect(nfs, -1);
	snprintf(options, sizeof(options), "allow_other,subtype=%s,fsname=%s", argc == 5 ? argv[4] : "nfs",
		 argc == 5 ? argv[3] : argv[1]);
	mount_options[4] = argv[2];
	return fuse_main(5, mount_options, &operations, NULL) ? 32 : 0;
}
