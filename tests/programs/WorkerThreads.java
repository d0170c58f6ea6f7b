import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** A pool of threads that fill maps, and buffers outside the heap of the JVM; prints a sum. */
public class WorkerThreads {
    static long work(int n) {
        var words = new HashMap<Integer, String>();
        for (int i = 0; i < 100_000; i++) words.put(i, "v" + (long) i * n);
        long sum = 0;
        for (String word : words.values()) sum += word.length();
        for (int i = 0; i < 50; i++) {
            ByteBuffer buffer = ByteBuffer.allocateDirect(100_000 + i);
            buffer.put(i, (byte) n);
            sum += buffer.get(i) + buffer.capacity();
        }
        return sum;
    }

    public static void main(String[] arguments) throws Exception {
        var pool = Executors.newFixedThreadPool(4);
        var results = new ArrayList<Future<Long>>();
        for (int n = 0; n < 8; n++) {
            int mine = n;
            results.add(pool.submit(() -> work(mine)));
        }
        long sum = 0;
        for (var result : results) sum += result.get();
        System.out.println(sum);
        pool.shutdown();
    }
}
