/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines of the access log out of the kernel's records. What a line says of the ends of
 * a connection and of how it ended are texts that Python makes once; a line is these
 * with the numbers of a record in between. core/accesslog.py says which texts where.
 */

struct km_lines;

enum km_lines_stop {
	KM_LINES_END, /* of the records */
	KM_LINES_OUTCOME, /* no texts for what became of this one */
	KM_LINES_ENDS, /* no texts for the ends of this one */
};

/* texts: nine, one after the other, of these sizes. NULL: no memory. */
struct km_lines *km_lines_new(const char *texts, const uint32_t *sizes);
void km_lines_free(struct km_lines *lines);

/* Texts of ends are asked for again. */
void km_lines_forget(struct km_lines *lines);

/* Three texts for records like this one; without wanted these have no line. 0, or -ENOMEM. */
int km_lines_ends(struct km_lines *lines, const void *record, const char *texts,
		  const uint32_t *sizes, bool wanted);
int km_lines_outcome(struct km_lines *lines, const void *record, const char *texts,
		     const uint32_t *sizes, bool wanted);

/*
 * Appends the lines of whole records, from *next on; there it stops, and says why; or
 * -ENOMEM. epoch is what the records' clock said at the Unix epoch, negative: ns.
 */
int km_lines_make(struct km_lines *lines, const void *records, uint32_t count, int64_t epoch,
		  uint32_t *next);

/* Bytes and lines since this was last asked, at *text until more are made. */
uint32_t km_lines_take(struct km_lines *lines, const char **text, uint32_t *count);
