"""The course's exercises: files with holes in them, and what is said of what was put there.

`catalogue` has the functions that students write and the numbers they are tried on, `stubs` makes
the files, `marking` looks at them.
"""
