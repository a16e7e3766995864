/* SPDX-License-Identifier: MIT
 * Open executable files for the profiler and check that they are the ones that ran. */
#include "profiler/image.h"

#include <elfutils/libdwelf.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "profiler/debug.h"
#include "profiler/debuginfod.h"
#include "profiler/symtab.h"

enum { PAGE_BYTES = 4096, MAX_SEGMENTS = 4096 };

static void refuse(struct bn_image *image, const struct bn_err *why)
{
    image->usable = false;
    image->why = *why;
}

static void read_segments(struct bn_image *image)
{
    size_t n = 0;

    if (elf_getphdrnum(image->elf, &n) != 0 || n > MAX_SEGMENTS)
        return;
    image->segments = bn_xcalloc(n + 1, sizeof *image->segments);
    for (size_t i = 0; i < n; i++) {
        GElf_Phdr p;
        if (!gelf_getphdr(image->elf, (int)i, &p) || p.p_type != PT_LOAD || p.p_offset > image->n_bytes ||
            p.p_filesz > image->n_bytes - p.p_offset || p.p_vaddr + p.p_memsz < p.p_vaddr)
            continue;
        /* The loader maps whole pages, so the file's bytes up to the page's end are there too. */
        size_t end = bn_min_size(bn_round_up(p.p_offset + p.p_filesz, PAGE_BYTES), image->n_bytes);
        image->segments[image->n_segments++] = (struct bn_image_segment){
            .vaddr = p.p_vaddr,
            .vaddr_end = p.p_vaddr + p.p_memsz,
            .offset = p.p_offset,
            .offset_end = p.p_filesz ? end : p.p_offset,
            .executable = p.p_flags & PF_X,
            .writable = p.p_flags & PF_W,
        };
        uint64_t top = bn_round_up(p.p_vaddr + p.p_memsz, PAGE_BYTES);
        if (top > image->vaddr_end)
            image->vaddr_end = top;
    }
}

static void read_build_id(Elf *elf, uint8_t *id, uint32_t *n)
{
    const void *bits = NULL;
    ssize_t length = dwelf_elf_gnu_build_id(elf, &bits);

    *n = 0;
    if (length > 0 && length <= BN_IMAGE_MAX_BUILD_ID) {
        memcpy(id, bits, (size_t)length);
        *n = (uint32_t)length;
    }
}

/* ---- separate debug files: by build id, then by .gnu_debuglink; only what lies on this machine ---- */

static bool has_debug_info(Elf *elf)
{
    return bn_image_section(elf, ".debug_info") || bn_image_section(elf, ".zdebug_info");
}

/* The checksum in .gnu_debuglink: CRC-32 as in zip files. */
static uint32_t crc32_of(const uint8_t *bytes, size_t n)
{
    uint32_t crc = UINT32_MAX, table[256];

    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++)
            table[i] = (table[i] >> 1) ^ (table[i] & 1 ? 0xedb88320u : 0);
    }
    for (size_t i = 0; i < n; i++)
        crc = (crc >> 8) ^ table[(crc ^ bytes[i]) & 255];
    return ~crc;
}

/* The file mapped by libelf, with no descriptor kept; NULL with errno if it cannot be opened or is no regular
 * file. (libelf makes copies of what it changes; with elf_memory on a mapping of ours it would write to
 * that.) */
static Elf *open_elf(const char *path, int64_t *modified_s)
{
    struct stat st;
    Elf *elf = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return NULL;
    elf_version(EV_CURRENT);
    errno = EINVAL;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0)
        elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
    if (elf && modified_s && st.st_mtim.tv_sec > 0)
        *modified_s = st.st_mtim.tv_sec;
    if (elf && elf_cntl(elf, ELF_C_FDREAD) != 0) {
        elf_end(elf);
        elf = NULL;
    }
    close(fd);
    return elf;
}

/* Take `path` as debug file if its build id (or, without one, its debuglink checksum) is right. */
static bool try_debug_file(struct bn_image *image, const char *path, const GElf_Word *crc)
{
    uint8_t id[BN_IMAGE_MAX_BUILD_ID];
    uint32_t n = 0;
    size_t size = 0;
    Elf *elf = open_elf(path, NULL);

    if (elf && elf_kind(elf) == ELF_K_ELF) {
        const char *bytes = elf_rawfile(elf, &size);
        read_build_id(elf, id, &n);
        if (image->build_id_bytes ? n == image->build_id_bytes && memcmp(id, image->build_id, n) == 0
                                  : crc && bytes && crc32_of((const uint8_t *)bytes, size) == *crc) {
            image->debug_elf = elf;
            return true;
        }
    }
    elf_end(elf);
    return false;
}

static void find_debug_file(struct bn_image *image)
{
    char path[4096];
    GElf_Word crc;
    const char *link = dwelf_elf_gnu_debuglink(image->elf, &crc);

    if (has_debug_info(image->elf))
        return;
    if (image->build_id_bytes > 1) {
        int at = snprintf(path, sizeof path, "/usr/lib/debug/.build-id/%02x/", image->build_id[0]);
        for (uint32_t i = 1; i < image->build_id_bytes; i++)
            at += snprintf(path + at, sizeof path - (size_t)at, "%02x", image->build_id[i]);
        snprintf(path + at, sizeof path - (size_t)at, ".debug");
        if (try_debug_file(image, path, NULL))
            return;
    }
    if (!link || strchr(link, '/') || image->path[0] != '/')
        return;
    int folder = (int)(image->name - image->path); /* with its final slash */
    static const char *const above[] = {"", "", "/usr/lib/debug"}, *const below[] = {"", ".debug/", ""};
    for (size_t i = 0; i < BN_COUNT(above); i++) {
        int n = snprintf(path, sizeof path, "%s%.*s%s%s", above[i], folder, image->path, below[i], link);
        if (n > 0 && (size_t)n < sizeof path && try_debug_file(image, path, &crc))
            return;
    }
}

/* Not in find_debug_file: images are opened while programs are recorded, when nobody may wait for a network.
 */
void bn_image_ask_debug(struct bn_image *image)
{
    if (image->asked || !image->usable || image->debug_elf || has_debug_info(image->elf))
        return;
    image->asked = true;
    char *path = bn_debuginfod_find(image->build_id, image->build_id_bytes);
    if (path)
        try_debug_file(image, path, NULL);
    free(path);
}

/* ---- opening ---- */

static int check_elf(struct bn_image *image, struct bn_err *err)
{
    GElf_Ehdr header;

    if (!image->elf || !image->bytes || elf_kind(image->elf) != ELF_K_ELF ||
        !gelf_getehdr(image->elf, &header))
        return bn_err_set(err, "%s: not an ELF file", image->path);
    if (gelf_getclass(image->elf) != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB)
        return bn_err_set(err, "%s: not a 64-bit little-endian ELF file", image->path);
    image->entry = header.e_entry;
    return 0;
}

/* An image that cannot be used goes by the build id of the file that ran. */
static void keep_id(struct bn_image *image, const uint8_t *build_id, size_t n)
{
    n = n <= BN_IMAGE_MAX_BUILD_ID ? n : 0;
    if (n > 0)
        memcpy(image->build_id, build_id, n);
    image->build_id_bytes = (uint32_t)n;
}

static void load(struct bn_image *image, const uint8_t *build_id, size_t n)
{
    struct bn_err err;

    if (check_elf(image, &err) != 0) {
        refuse(image, &err);
        return;
    }
    read_build_id(image->elf, image->build_id, &image->build_id_bytes);
    if (n > 0 && (image->build_id_bytes != n || memcmp(image->build_id, build_id, n) != 0)) {
        bn_err_set(&err, "%s: the file was replaced since the recording (other build id)", image->path);
        image->other_file = true;
        refuse(image, &err);
        keep_id(image, build_id, n);
        return;
    }
    read_segments(image);
    find_debug_file(image);
    bn_fde_read(&image->fdes, image->elf, image->debug_elf, image->vaddr_end);
    image->usable = true;
}

static struct bn_image *new_image(const char *path)
{
    struct bn_image *image = bn_xcalloc(1, sizeof *image);

    image->path = bn_xstrdup(path);
    const char *slash = strrchr(image->path, '/');
    image->name = slash && slash[1] ? slash + 1 : image->path;
    return image;
}

/* The kernel appends " (deleted)" to the name of an unlinked file; its name is shown without. */
static bool cut_deleted(char *path)
{
    static const char mark[] = " (deleted)";
    size_t n = strlen(path), m = sizeof mark - 1;

    if (n <= m || strcmp(path + n - m, mark) != 0)
        return false;
    path[n - m] = '\0';
    return true;
}

struct bn_image *bn_image_open(const char *path, const uint8_t *build_id, size_t build_id_bytes)
{
    struct bn_image *image = new_image(path);
    struct bn_err err;

    if (cut_deleted(image->path) && build_id_bytes == 0) {
        bn_err_set(&err, "%s: deleted while it ran, and its build id is not known", image->path);
        image->other_file = true;
        refuse(image, &err);
        return image;
    }
    if (image->path[0] != '/' || image->path[1] == '/') {
        bn_err_set(&err, "%s: not a file", image->path);
        refuse(image, &err);
        return image;
    }
    image->elf = open_elf(image->path, &image->modified_s);
    if (!image->elf) {
        bn_err_set(&err, "%s: cannot be read: %s", image->path, strerror(errno));
        refuse(image, &err);
        keep_id(image, build_id, build_id_bytes);
        return image;
    }
    image->bytes = (const uint8_t *)elf_rawfile(image->elf, &image->n_bytes);
    load(image, build_id, build_id_bytes);
    return image;
}

struct bn_image *bn_image_from_bytes(const char *name, const void *bytes, size_t n)
{
    struct bn_image *image = new_image(name);

    image->owned = bn_xcalloc(n + 1, 1);
    memcpy(image->owned, bytes, n);
    image->bytes = image->owned;
    image->n_bytes = n;
    elf_version(EV_CURRENT);
    image->elf = elf_memory((char *)image->owned, n);
    load(image, NULL, 0);
    return image;
}

void bn_image_free(struct bn_image *image)
{
    if (!image)
        return;
    bn_symtab_free(image->symtab);
    bn_debug_free(image->debug);
    bn_fde_free(&image->fdes);
    elf_end(image->debug_elf);
    elf_end(image->elf);
    free(image->owned);
    free(image->segments);
    free(image->path);
    free(image);
}

/* ---- addresses ---- */

/* The kernel maps a segment from the page that holds its first byte, so a mapping belongs to the segment if
 * its file range overlaps the segment's. Two segments may share a page of the file: then the executable one
 * is meant, because only executable mappings are asked about, and of several the one that begins in that
 * page. */
int bn_image_bias(const struct bn_image *image, uint64_t start, uint64_t length, uint64_t file_offset,
                  uint64_t *bias)
{
    const struct bn_image_segment *best = NULL;

    for (size_t i = 0; i < image->n_segments; i++) {
        const struct bn_image_segment *s = &image->segments[i];
        uint64_t first = s->offset & ~(uint64_t)(PAGE_BYTES - 1);
        if (file_offset >= s->offset_end || (length < first && file_offset < first - length) ||
            file_offset + length <= s->offset)
            continue;
        bool better = !best || (s->executable && !best->executable) ||
                      (s->executable == best->executable && first == file_offset);
        if (better)
            best = s;
    }
    if (!best)
        return -1;
    *bias = start - (best->vaddr + file_offset - best->offset);
    return 0;
}

const uint8_t *bn_image_read(const struct bn_image *image, uint64_t vaddr, size_t n)
{
    for (size_t i = 0; i < image->n_segments; i++) {
        const struct bn_image_segment *s = &image->segments[i];
        /* Like the mapping, from the beginning of its first page. */
        uint64_t slack = s->offset & (PAGE_BYTES - 1);
        if (s->writable || s->vaddr < slack || vaddr < s->vaddr - slack)
            continue;
        uint64_t at = s->offset - slack + (vaddr - (s->vaddr - slack));
        if (at >= s->offset - slack && at <= s->offset_end && n <= s->offset_end - at)
            return image->bytes + at;
    }
    return bn_fde_bytes(&image->fdes, vaddr, n);
}

bool bn_image_is_code(const struct bn_image *image, uint64_t vaddr)
{
    for (size_t i = 0; i < image->n_segments; i++)
        if (image->segments[i].executable && vaddr >= image->segments[i].vaddr &&
            vaddr < image->segments[i].vaddr_end)
            return true;
    return false;
}

/* ---- sections ---- */

Elf_Scn *bn_image_section(Elf *elf, const char *name)
{
    size_t names;

    if (elf_getshdrstrndx(elf, &names) != 0)
        return NULL;
    for (Elf_Scn *scn = NULL; (scn = elf_nextscn(elf, scn)) != NULL;) {
        GElf_Shdr shdr;
        if (!gelf_getshdr(scn, &shdr) || shdr.sh_type == SHT_NOBITS)
            continue;
        const char *found = elf_strptr(elf, names, shdr.sh_name);
        if (found && strcmp(found, name) == 0)
            return scn;
    }
    return NULL;
}

bool bn_image_in_section(const struct bn_image *image, uint64_t vaddr, const char *prefix)
{
    size_t names;

    if (!image->elf || elf_getshdrstrndx(image->elf, &names) != 0)
        return false;
    for (Elf_Scn *scn = NULL; (scn = elf_nextscn(image->elf, scn)) != NULL;) {
        GElf_Shdr shdr;
        if (!gelf_getshdr(scn, &shdr) || !(shdr.sh_flags & SHF_ALLOC) || vaddr < shdr.sh_addr ||
            vaddr - shdr.sh_addr >= shdr.sh_size)
            continue;
        const char *found = elf_strptr(image->elf, names, shdr.sh_name);
        return found && strncmp(found, prefix, strlen(prefix)) == 0;
    }
    return false;
}
