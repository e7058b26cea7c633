// cuRAND: a generator can be made and dropped, as candle does for every device. It generates nothing:
// what draws numbers on the device meets a stub.
extern "C" {
int curandCreateGenerator(void **generator, int) {
    static char only;
    *generator = &only;
    return 0;
}
int curandDestroyGenerator(void *) { return 0; }
int curandSetPseudoRandomGeneratorSeed(void *, unsigned long long) { return 0; }
int curandSetGeneratorOffset(void *, unsigned long long) { return 0; }
int curandSetStream(void *, void *) { return 0; }
}
