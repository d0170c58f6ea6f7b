// Objects by the hundred thousand, then the same in worker threads; prints sums.
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

function work(n) {
  const words = new Map();
  for (let i = 0; i < 200000; i++) words.set('k' + i, { i, pair: [i * n, `${i}`] });
  let sum = 0;
  for (const value of words.values()) sum += value.pair[0] + value.pair[1].length;
  return sum + Buffer.alloc(3 << 20, n).reduce((a, b) => a + b);
}

if (isMainThread) {
  console.log(work(1));
  const of = n => new Promise(done => new Worker(__filename, { workerData: n }).on('message', done));
  Promise.all([1, 2, 3].map(of)).then(sums => console.log(sums.join(' ')));
} else {
  parentPort.postMessage(work(workerData));
}
