// everything is in cuda.h
