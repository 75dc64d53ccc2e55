/* The head of a request (RFC 9112), taken off a connection's buffer: `take_request`.
 *
 * Its Python twin and reference is in `http1.py`, which decides what a head may look
 * like. Here is only what nearly every request looks like: a common method, a path, one
 * Host without oddities, no field twice, a Connection of one word. For any other head,
 * and for one that is wrong or not complete, `take_request` returns None and leaves it
 * to the Python code, which has the words of the errors too. So this file needs to know
 * one thing: "this head is surely good, and means this".
 *
 * The GIL is held throughout. The module owns its state. Only the limited API is used,
 * so one build is for every Python from 3.11 on.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdint.h>
#include <string.h>

/* What is longer is left to Python. */
enum {
    LONGEST_NAME = 40, /* bytes of the name of a field */
    MOST_DIGITS = 18   /* of a Content-Length: any such number fits */
};

enum { NAMES = 512 }; /* places for those that were seen */

/* Fields that this file must understand. */
typedef enum { OTHER, HOST, CONNECTION, UPGRADE, CONTENT_LENGTH, TRANSFER_ENCODING } Kind;

static const struct {
    const char *name;
    Kind kind;
} KINDS[] = {
    {"host", HOST},
    {"connection", CONNECTION},
    {"upgrade", UPGRADE},
    {"content-length", CONTENT_LENGTH},
    {"transfer-encoding", TRANSFER_ENCODING},
};

static const char *const METHODS[] = {"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"};

static const char *const LIMITS[] = {"line", "header_lines", "head"};

enum { LINE, HEADER_LINES, HEAD };

#define COUNT(array) ((Py_ssize_t)(sizeof(array) / sizeof *(array)))

/* A name of a field that was seen, in lower case. */
typedef struct {
    PyObject *name; /* NULL if there is none */
    Kind kind;
    unsigned char size;
    unsigned char text[LONGEST_NAME];
} Name;

typedef struct {
    PyObject *request; /* the classes Request and Header */
    PyObject *header;
    PyObject *chunked; /* the length that stands for the chunked coding */
    PyObject *methods[COUNT(METHODS)];
    PyObject *http11;
    PyObject *http10;
    PyObject *websocket;
    PyObject *empty; /* a tuple */
    /* The `silly.Limits` of the last call, which is immutable, and what it says. */
    PyObject *given;
    PyObject *names_of_limits[COUNT(LIMITS)];
    Py_ssize_t limits[COUNT(LIMITS)];
    /* The lower case of each character of a token; 0 for all others. */
    unsigned char lower[256];
    /* Each in the place that its hash gives; the name seen last stays. So memory is
     * bounded, and a peer that sends many names costs others only a new string. */
    Name names[NAMES];
} State;

/* A head that is being read. */
typedef struct {
    Py_ssize_t limits[COUNT(LIMITS)];
    PyObject *method; /* borrowed, as is `version` */
    PyObject *version;
    const unsigned char *target;
    Py_ssize_t target_size;
    PyObject *header;
    long long length;
    int http11;
    int host;
    int chunked;
    int framed; /* how many fields say how long the body is */
    int keepalive;
    int tunnel;
} Head;

/* The functions that read return the place behind what they read. Their NULL means
 * "leave it to Python", or an error if an exception is set. */

static PyObject *
new_text(const unsigned char *from, Py_ssize_t size)
{
    return PyUnicode_DecodeLatin1((const char *)from, size, NULL);
}

/* Whether these bytes are `word`, which is in lower case, in whatever case. */
static int
equals(const State *state, const unsigned char *text, Py_ssize_t size, const char *word)
{
    if (size != (Py_ssize_t)strlen(word)) {
        return 0;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        if (state->lower[text[i]] != (unsigned char)word[i]) {
            return 0;
        }
    }
    return 1;
}

static int
is_digit(unsigned char c)
{
    return c >= '0' && c <= '9';
}

/* Reads a number of at most `most` digits, and nothing else. -1 if it isn't one. */
static long long
read_number(const unsigned char *text, Py_ssize_t size, Py_ssize_t most)
{
    long long number = 0;
    if (size < 1 || size > most) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        if (!is_digit(text[i])) {
            return -1;
        }
        number = number * 10 + (text[i] - '0');
    }
    return number;
}

/* Whether this is a plain name or IPv4 address, and maybe a port. */
static int
is_host(const unsigned char *text, Py_ssize_t size)
{
    Py_ssize_t at = 0;
    while (at < size
           && (is_digit(text[at]) || (text[at] >= 'a' && text[at] <= 'z') || (text[at] >= 'A' && text[at] <= 'Z')
               || text[at] == '.' || text[at] == '-' || text[at] == '_')) {
        at++;
    }
    if (at == 0 || at == size) {
        return at > 0;
    }
    const long long port = text[at] == ':' ? read_number(text + at + 1, size - at - 1, 5) : -1;
    return port >= 0 && port <= 65535;
}

/* Whether there is a control character other than a tab. It looks at all bytes, so that
 * the compiler can look at many at a time. */
static int
has_control(const unsigned char *text, Py_ssize_t size)
{
    unsigned char found = 0;
    for (Py_ssize_t i = 0; i < size; i++) {
        found |= (unsigned char)(((text[i] < 0x20) & (text[i] != '\t')) | (text[i] == 0x7F));
    }
    return found;
}

static const unsigned char *
read_request_line(const State *state, const unsigned char *at, const unsigned char *end, Head *head)
{
    const unsigned char *const start = at;
    for (int i = 0; i < COUNT(METHODS) && head->method == NULL; i++) {
        const Py_ssize_t size = (Py_ssize_t)strlen(METHODS[i]);
        if (end - at > size && memcmp(at, METHODS[i], (size_t)size) == 0 && at[size] == ' ') {
            head->method = state->methods[i];
            at += size + 1;
        }
    }
    if (head->method == NULL || at == end || *at != '/') {
        return NULL;
    }
    head->target = at;
    while (at < end && *at > ' ' && *at < 0x7F && *at != '#') {
        at++;
    }
    head->target_size = at - head->target;
    if (end - at < 11 || memcmp(at, " HTTP/1.", 8) != 0 || (at[8] != '1' && at[8] != '0') || at[9] != '\r' || at[10] != '\n') {
        return NULL;
    }
    head->http11 = at[8] == '1';
    head->version = head->http11 ? state->http11 : state->http10;
    head->keepalive = head->http11;
    return at + 9 - start > head->limits[LINE] ? NULL : at + 11;
}

/* Does what the field means for the framing and the connection. Returns 0 for what is
 * left to Python. */
static int
understand(const State *state, Head *head, Kind kind, const unsigned char *value, Py_ssize_t size)
{
    switch (kind) {
    case HOST:
        head->host = 1;
        return is_host(value, size);
    case CONNECTION:
        if (equals(state, value, size, "keep-alive")) {
            head->keepalive = 1;
            return 1;
        }
        if (equals(state, value, size, "close")) {
            head->keepalive = 0;
            return 1;
        }
        return equals(state, value, size, "upgrade");
    case UPGRADE:
        head->tunnel = 1;
        return equals(state, value, size, "websocket");
    case CONTENT_LENGTH:
        head->framed++;
        head->length = read_number(value, size, MOST_DIGITS);
        return head->framed == 1 && head->length >= 0;
    case TRANSFER_ENCODING:
        head->framed++;
        head->chunked = 1;
        return head->framed == 1 && head->http11 && equals(state, value, size, "chunked");
    default:
        return 1;
    }
}

/* Returns the place of a name, which is in lower case, and puts it there if it is not.
 * NULL with an exception. */
static const Name *
find_name(State *state, const unsigned char *text, Py_ssize_t size, uint32_t hash)
{
    Name *place = &state->names[(hash >> 16) % NAMES];
    if (place->size == size && memcmp(place->text, text, (size_t)size) == 0) {
        return place;
    }
    PyObject *name = new_text(text, size);
    if (name == NULL) {
        return NULL;
    }
    Py_XDECREF(place->name);
    place->name = name;
    place->size = (unsigned char)size;
    memcpy(place->text, text, (size_t)size);
    place->kind = OTHER;
    for (int i = 0; i < COUNT(KINDS); i++) {
        if (equals(state, text, size, KINDS[i].name)) {
            place->kind = KINDS[i].kind;
        }
    }
    return place;
}

static const unsigned char *
read_field(State *state, const unsigned char *at, const unsigned char *end, Head *head)
{
    const unsigned char *const start = at;
    const Py_ssize_t most = end - start < LONGEST_NAME ? end - start : LONGEST_NAME;
    unsigned char lower[LONGEST_NAME];
    /* By the prime of FNV. The names that browsers and proxies send have different places. */
    uint32_t hash = 0;
    Py_ssize_t size = 0;
    for (unsigned char c; size < most && (c = state->lower[start[size]]) != 0; size++) {
        lower[size] = c;
        hash = hash * 16777619 + c;
    }
    at += size;
    if (size == 0 || at == end || *at != ':') {
        return NULL;
    }
    do {
        at++;
    } while (at < end && (*at == ' ' || *at == '\t'));
    const unsigned char *const stop = memchr(at, '\r', (size_t)(end - at));
    if (stop == NULL || end - stop < 2 || stop[1] != '\n' || stop - start > head->limits[LINE]) {
        return NULL;
    }
    const unsigned char *last = stop;
    while (last > at && (last[-1] == ' ' || last[-1] == '\t')) {
        last--;
    }
    if (has_control(at, last - at)) {
        return NULL;
    }
    const Name *name = find_name(state, lower, size, hash);
    if (name == NULL || !understand(state, head, name->kind, at, last - at)) {
        return NULL;
    }
    PyObject *value = name->kind == UPGRADE ? Py_NewRef(state->websocket) : new_text(at, last - at);
    if (value == NULL) {
        return NULL;
    }
    const int failed = PyDict_SetItem(head->header, name->name, value);
    Py_DECREF(value);
    return failed ? NULL : stop + 2;
}

/* Returns the Request, or NULL. */
static PyObject *
make_request(const State *state, const Head *head)
{
    const unsigned char *const text = head->target;
    const unsigned char *const end = text + head->target_size;
    const unsigned char *const mark = memchr(text, '?', (size_t)head->target_size);
    PyObject *request = NULL;
    PyObject *fields = NULL;
    PyObject *target = new_text(text, end - text);
    PyObject *path = mark == NULL ? Py_XNewRef(target) : new_text(text, mark - text);
    PyObject *query = mark == NULL ? new_text(end, 0) : new_text(mark + 1, end - mark - 1);
    PyObject *body = head->chunked ? Py_NewRef(state->chunked) : PyLong_FromLongLong(head->length);
    if (target != NULL && path != NULL && query != NULL && body != NULL) {
        fields = PyTuple_Pack(9, head->method, target, path, query, head->version, head->header, body,
                              head->keepalive ? Py_True : Py_False, head->tunnel || !head->keepalive ? Py_True : Py_False);
    }
    PyObject *args = fields == NULL ? NULL : PyTuple_Pack(1, fields);
    if (args != NULL) {
        /* Without the constructor of a NamedTuple, which is a Python function. */
        newfunc new = (newfunc)PyType_GetSlot(&PyTuple_Type, Py_tp_new);
        request = new ((PyTypeObject *)state->request, args, NULL);
    }
    Py_XDECREF(args);
    Py_XDECREF(fields);
    Py_XDECREF(body);
    Py_XDECREF(query);
    Py_XDECREF(path);
    Py_XDECREF(target);
    return request;
}

/* Reads the request at the front of the `have` bytes at `from`, and sets `*size` to what
 * its head takes. NULL, maybe with an exception. */
static PyObject *
read_request(State *state, const unsigned char *from, Py_ssize_t have, Head *head, Py_ssize_t *size)
{
    const unsigned char *const end = from + have;
    const unsigned char *at = read_request_line(state, from, end, head);
    if (at == NULL) {
        return NULL;
    }
    newfunc new = (newfunc)PyType_GetSlot((PyTypeObject *)state->header, Py_tp_new);
    head->header = new ((PyTypeObject *)state->header, state->empty, NULL);
    if (head->header == NULL) {
        return NULL;
    }
    Py_ssize_t count = 0;
    while (at != NULL && (end - at < 2 || at[0] != '\r' || at[1] != '\n')) {
        at = count++ < head->limits[HEADER_LINES] ? read_field(state, at, end, head) : NULL;
    }
    PyObject *request = NULL;
    if (at != NULL && at - from - 2 <= head->limits[HEAD] && (head->host || !head->http11)
        && PyDict_Size(head->header) == count /* no field is repeated */) {
        request = make_request(state, head);
        *size = at + 2 - from;
    }
    Py_DECREF(head->header);
    return request;
}

/* Copies the limits to `limits`. Asks `given` for them, unless it is the one of the last
 * call. */
static int
read_limits(State *state, PyObject *given, Py_ssize_t *limits)
{
    if (given == state->given) {
        memcpy(limits, state->limits, sizeof state->limits);
        return 0;
    }
    for (int i = 0; i < COUNT(LIMITS); i++) {
        PyObject *number = PyObject_GetAttr(given, state->names_of_limits[i]);
        if (number == NULL) {
            return -1;
        }
        limits[i] = PyLong_AsSsize_t(number);
        Py_DECREF(number);
        if (limits[i] == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    PyObject *before = state->given;
    state->given = Py_NewRef(given);
    memcpy(state->limits, limits, sizeof state->limits);
    Py_XDECREF(before);
    return 0;
}

/* take_request(buf, limits) -> Request or None: see `http1.py` */
static PyObject *
take_request(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    State *state = PyModule_GetState(module);
    Head head = {0};
    Py_buffer buf;
    Py_ssize_t size = 0;
    if (count != 2) {
        PyErr_Format(PyExc_TypeError, "take_request takes 2 arguments, not %zd", count);
        return NULL;
    }
    if (!PyByteArray_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "take_request needs a bytearray");
        return NULL;
    }
    if (read_limits(state, args[1], head.limits) < 0) {
        return NULL;
    }
    /* While the buffer is exported nothing can resize it, not even a finalizer that an
     * allocation here may run. */
    if (PyObject_GetBuffer(args[0], &buf, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    const Py_ssize_t have = buf.len;
    PyObject *request = read_request(state, buf.buf, have, &head, &size);
    PyBuffer_Release(&buf);
    if (request == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    if ((size == have ? PyByteArray_Resize(args[0], 0) : PySequence_DelSlice(args[0], 0, size)) < 0) {
        Py_DECREF(request);
        return NULL;
    }
    return request;
}

static PyMethodDef functions[] = {
    {"take_request", (PyCFunction)(void (*)(void))take_request, METH_FASTCALL, "take_request(buf, limits) -> Request or None"},
    {NULL, NULL, 0, NULL},
};

/* Sets `*type` to the class `name` of the module `home`. It must derive from `base`. */
static int
get_type(PyObject *home, const char *name, PyTypeObject *base, PyObject **type)
{
    *type = PyObject_GetAttrString(home, name);
    if (*type == NULL) {
        return -1;
    }
    if (!PyType_Check(*type) || !PyType_IsSubtype((PyTypeObject *)*type, base)) {
        PyErr_Format(PyExc_TypeError, "%s is %R", name, *type);
        return -1;
    }
    return 0;
}

static int
intern(const char *text, PyObject **string)
{
    *string = PyUnicode_InternFromString(text);
    return *string == NULL ? -1 : 0;
}

static int
start(PyObject *module)
{
    State *state = PyModule_GetState(module);
    PyObject *http1 = PyImport_ImportModule("silly._wire.http1");
    if (http1 == NULL) {
        return -1;
    }
    const int missing = get_type(http1, "Request", &PyTuple_Type, &state->request) < 0
                        || get_type(http1, "Header", &PyDict_Type, &state->header) < 0
                        || (state->chunked = PyObject_GetAttrString(http1, "CHUNKED")) == NULL;
    Py_DECREF(http1);
    if (missing || intern("HTTP/1.1", &state->http11) < 0 || intern("HTTP/1.0", &state->http10) < 0
        || intern("websocket", &state->websocket) < 0 || (state->empty = PyTuple_New(0)) == NULL) {
        return -1;
    }
    for (int i = 0; i < COUNT(METHODS); i++) {
        if (intern(METHODS[i], &state->methods[i]) < 0) {
            return -1;
        }
    }
    for (int i = 0; i < COUNT(LIMITS); i++) {
        if (intern(LIMITS[i], &state->names_of_limits[i]) < 0) {
            return -1;
        }
    }
    for (const char *token = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"; *token != '\0'; token++) {
        state->lower[(unsigned char)*token] = (unsigned char)*token;
    }
    for (int i = 'A'; i <= 'Z'; i++) {
        state->lower[i] = (unsigned char)(i - 'A' + 'a');
    }
    return 0;
}

static void
finish(void *module)
{
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->request);
    Py_CLEAR(state->header);
    Py_CLEAR(state->chunked);
    Py_CLEAR(state->http11);
    Py_CLEAR(state->http10);
    Py_CLEAR(state->websocket);
    Py_CLEAR(state->empty);
    Py_CLEAR(state->given);
    for (int i = 0; i < COUNT(METHODS); i++) {
        Py_CLEAR(state->methods[i]);
    }
    for (int i = 0; i < COUNT(LIMITS); i++) {
        Py_CLEAR(state->names_of_limits[i]);
    }
    for (int i = 0; i < NAMES; i++) {
        Py_CLEAR(state->names[i].name);
    }
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, start}, {0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "silly._wire._head_speedups",
    .m_doc = "The heads of HTTP requests in C.",
    .m_size = sizeof(State),
    .m_methods = functions,
    .m_slots = slots,
    .m_free = finish,
};

PyMODINIT_FUNC
PyInit__head_speedups(void)
{
    return PyModuleDef_Init(&definition);
}
