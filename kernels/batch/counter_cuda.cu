// The counters of a training step, kept on the device so that a captured step counts by itself: one
// thread.
//   (batch, epoch) becomes (batch + 1, epoch), after `steps` batches (0, epoch + 1);
//   a third counter counts all calls.

extern "C" __global__ void advance(long long* counters, bool total, long long steps)
{
    long long batch = counters[0] + 1;
    if (batch >= steps) {
        batch = 0;
        counters[1] += 1;
    }
    counters[0] = batch;
    if (total) counters[2] += 1;
}
