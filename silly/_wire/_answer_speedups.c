/* The lines at the top of a response with an ordinary header: the first line, the
 * fields, and Date.
 *
 * The Python twin is `answer_lines` in `answer.py`, which documents it. What isn't
 * plainly right is left to the code in Python, which alone decides what may be sent and
 * says what is wrong. So this file decides only one rule of the protocol: "this is a
 * token, and this is printable ASCII".
 *
 * The module owns its state: the line of Date, and the function in Python that makes it.
 * Only the limited API is used.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <string.h>
#include <time.h>

enum { LONGEST = 2048 }; /* lines of more bytes are left to Python */

typedef struct {
    PyObject *date_line; /* of `answer.py` */
    PyObject *date;      /* what it returned last, or NULL */
    time_t second;       /* when that was */
} State;

/* Where the lines are put together. */
typedef struct {
    char *at;
    const char *end;
} Place;

/* Appends `size` bytes. Returns 0 if there is no room for them. */
static int
put(Place *place, const char *from, Py_ssize_t size)
{
    if (size > place->end - place->at) {
        return 0;
    }
    memcpy(place->at, from, (size_t)size);
    place->at += size;
    return 1;
}

/* As `put`, for a bytes object. */
static int
put_bytes(Place *place, PyObject *bytes)
{
    return put(place, PyBytes_AsString(bytes), PyBytes_Size(bytes));
}

/* The lower case of a character of a token (RFC 9110, section 5.6.2), or 0. */
static char
lowered(char c)
{
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
        return c;
    }
    if (c >= 'A' && c <= 'Z') {
        return (char)(c - 'A' + 'a');
    }
    return c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL ? c : 0;
}

/* Whether the `size` bytes at `name` are the characters of `word`, a literal. */
#define IS(name, size, word) ((size_t)(size) == sizeof(word) - 1 && memcmp(name, word, sizeof(word) - 1) == 0)

/* The UTF-8 of a str. NULL if the object is no str, or is too long, or has characters that
 * UTF-8 can't encode. */
static const char *
characters(PyObject *text, Py_ssize_t *size)
{
    if (!PyUnicode_CheckExact(text) || PyUnicode_GetLength(text) > LONGEST) {
        return NULL; /* a long one that isn't ASCII would keep its UTF-8 in memory */
    }
    const char *from = PyUnicode_AsUTF8AndSize(text, size);
    if (from == NULL) {
        PyErr_Clear();
    }
    return from;
}

/* Appends the name of a field, in lower case. Returns its length, or 0 if it isn't
 * valid, or there is no room for it. */
static Py_ssize_t
put_name(Place *place, PyObject *name)
{
    Py_ssize_t size;
    const char *from = characters(name, &size);
    if (from == NULL || size > place->end - place->at) {
        return 0;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        const char c = lowered(from[i]);
        if (c == 0) {
            return 0;
        }
        place->at[i] = c;
    }
    place->at += size;
    return size;
}

/* Appends a value. Returns 0 if that is for Python to do. */
static int
put_value(Place *place, PyObject *value)
{
    Py_ssize_t size;
    const char *from = characters(value, &size);
    if (from == NULL) {
        return 0;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        if (from[i] < 0x20 || from[i] > 0x7e) {
            return 0;
        }
    }
    return put(place, from, size);
}

static int
put_number(Place *place, long long number)
{
    char digits[24];
    return put(place, digits, PyOS_snprintf(digits, sizeof(digits), "%lld", number));
}

/* Appends the line of a field, or sets `*length` to the value of Content-Length, a
 * borrowed reference. Returns 0 if that is for Python to do. */
static int
put_field(Place *place, PyObject *name, PyObject *value, PyObject **length)
{
    char *begin = place->at;
    const Py_ssize_t size = put_name(place, name);
    if (size == 0 || IS(begin, size, "date") || IS(begin, size, "connection") || IS(begin, size, "transfer-encoding")) {
        return 0;
    }
    long long number = 0;
    const int numeric = PyLong_CheckExact(value);
    if (numeric) {
        int overflow;
        number = PyLong_AsLongLongAndOverflow(value, &overflow);
        if (overflow) {
            return 0;
        }
    }
    if (IS(begin, size, "content-length")) {
        if (!numeric || number < 0 || *length != Py_None) {
            return 0;
        }
        *length = value;
        place->at = begin;
        return 1;
    }
    return put(place, ": ", 2) && (numeric ? put_number(place, number) : put_value(place, value)) && put(place, "\r\n", 2);
}

/* Returns the line of Date, a new reference. It is made anew when the second is
 * another one. */
static PyObject *
date_of(State *state)
{
    struct timespec now;
    if (timespec_get(&now, TIME_UTC) != TIME_UTC) {
        PyErr_SetString(PyExc_OSError, "the system has no time");
        return NULL;
    }
    if (state->date == NULL || state->second != now.tv_sec) {
        PyObject *date = PyObject_CallNoArgs(state->date_line);
        if (date == NULL) {
            return NULL;
        }
        if (!PyBytes_Check(date)) {
            PyErr_SetString(PyExc_TypeError, "the line of Date is no bytes");
            Py_DECREF(date);
            return NULL;
        }
        PyObject *before = state->date;
        state->date = date;
        state->second = now.tv_sec;
        Py_XDECREF(before);
    }
    return Py_NewRef(state->date);
}

/* answer_lines(status, fields, first_lines) -> (lines, length) or None */
static PyObject *
answer_lines(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    char lines[LONGEST];
    Place place = {lines, lines + LONGEST};
    if (count != 3) {
        PyErr_Format(PyExc_TypeError, "answer_lines takes 3 arguments, not %zd", count);
        return NULL;
    }
    PyObject *status = args[0], *fields = args[1], *first_lines = args[2], *length = Py_None;
    if (!PyDict_CheckExact(first_lines)) {
        PyErr_SetString(PyExc_TypeError, "answer_lines needs a dict of first lines");
        return NULL;
    }
    if (!PyLong_CheckExact(status) || (fields != Py_None && !PyDict_CheckExact(fields))) {
        return Py_NewRef(Py_None);
    }
    PyObject *first = PyDict_GetItemWithError(first_lines, status);
    if (first == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    if (!PyBytes_Check(first) || !put_bytes(&place, first)) {
        return Py_NewRef(Py_None);
    }
    if (fields != Py_None) {
        PyObject *name, *value;
        Py_ssize_t at = 0;
        while (PyDict_Next(fields, &at, &name, &value)) {
            if (!put_field(&place, name, value, &length)) {
                return Py_NewRef(Py_None);
            }
        }
    }
    Py_INCREF(length); /* the dict may lose it while Python makes the Date */
    PyObject *date = date_of(PyModule_GetState(module));
    const int fits = date != NULL && put_bytes(&place, date);
    Py_XDECREF(date);
    if (!fits) {
        Py_DECREF(length);
        return date == NULL ? NULL : Py_NewRef(Py_None);
    }
    PyObject *bytes = PyBytes_FromStringAndSize(lines, place.at - lines);
    PyObject *result = bytes == NULL ? NULL : PyTuple_Pack(2, bytes, length);
    Py_XDECREF(bytes);
    Py_DECREF(length);
    return result;
}

static PyMethodDef functions[] = {
    {"answer_lines", (PyCFunction)(void (*)(void))answer_lines, METH_FASTCALL,
     "answer_lines(status, fields, first_lines) -> (lines, length) or None"},
    {NULL, NULL, 0, NULL},
};

static int
start(PyObject *module)
{
    State *state = PyModule_GetState(module);
    PyObject *home = PyImport_ImportModule("silly._wire.answer");
    if (home == NULL) {
        return -1;
    }
    state->date_line = PyObject_GetAttrString(home, "date_line");
    Py_DECREF(home);
    return state->date_line == NULL ? -1 : 0;
}

static void
finish(void *module)
{
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->date_line);
    Py_CLEAR(state->date);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, start}, {0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "silly._wire._answer_speedups",
    .m_doc = "The lines at the top of a response in C.",
    .m_size = sizeof(State),
    .m_methods = functions,
    .m_slots = slots,
    .m_free = finish,
};

PyMODINIT_FUNC
PyInit__answer_speedups(void)
{
    return PyModuleDef_Init(&definition);
}
