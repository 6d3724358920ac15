/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rack of tests/support/device_rack.h, stirred with INTx, as the first version of the devices' tables saved
 * it: base64 of zlib's format. It is never written anew: it must load for ever.
 */
#ifndef SKIFF_TESTS_MIGRATION_DEVICE_STATE_V1_H
#define SKIFF_TESTS_MIGRATION_DEVICE_STATE_V1_H

#include <stddef.h>

/* clang-format off */
static inline const char *const *device_state_v1(void)
{
    static const char *const lines[] = {
    "eNrtnX+MHNddwN/s7u3unc/23vmcXtykuSZBOHauPv8gdaCIq3+EtPxy6zROSqT1ePbd3vRmZ9Yzs3c2VLC0KP+kLZaAf1JEU6HQ",
    "VAbJ0IryRwUH/0BUWiVCKFJRVasgBBIVbokQBIGZN/v218xu7LOJb5P7fKLLm3lv5s1nZt/s7t33zdenf+ZDjz325M+dNkSL//rH",
    "rGgzdvnURx4/+cETOb3+H//+8OXTJ48/8YXZzibiLnGgZlrLtisP+Ka1cuD84R+bX/aC0BATdcuer8hV25JZkbc8d8mu5kVJ9DJR",
    "C+wL5dA858i8KPY1TcZNdelWbLea79+tt29DlCKdZ5vrD+m2vLgBr+8RU2KDRJfn6sb2ONxdzBwVAAAAAAAAAAAAAABw+9Sf+fz7",
    "VaiiLOK/3ccMD1UUu4s7WoGKslmp+DIIskZ/vz1bqqhIqSia5h989SPtqEhmyKFsa/nReadu3fGoyGwcFckI45aiImqv5pvss63Z",
    "jJubutxsjPVX/5exDwAAAAAAAAAAAABbjVXn67YKVXwjK0T7MY/hoYpiezErMvVaIREJiaomxES1LstBaIaNIJdoj5ukq4IYyaZt",
    "oV2Tfjm0rZXUbpOttmXTWZXpPuu1g/pwmUFNrcMlm7apJstzQ99zUm1BzY7aajXTrRjJLlVb62jJpu2+DGTY7jTZmg0trzCgbqeY",
    "9GXNtF3brZbd1Nllq1Yq3pT3peOZlaR2oaV1cEj9oWR9UZseHNaQ2mMsfh1S/VfM0CzbbvKMi3G91wiTDYWaDAKzKo1Movu1iuWG",
    "6Su+Vrb98+WqTB1hXPmoI7Rfi057zm+4qcrCshfWnUY1+TJMmlbdnteNuWiIu4H0Q1lJXfc10x1QPWYGK+nagvyEtAZsXezeS0/3",
    "3jm6/NpDF/q3Nwx1Gh8X4snMRRWvm+vtSxyK/r+m7lsjeVs//8dXfk3d1m+oq6HrdiVv66MLRw4ZYiwuiyI/eFwXhozofHTh6+lX",
    "d1urulz3/HBAVwPvqrza+NFDqerzDdmQ7a07o2Usrs4nR48+m/Foecp4I3p/ylz+9MXnzxrqKnxMbaA3fFfiKtS9IJyPbcV4z3LO",
    "8ioyNeJ6NlBNx376iZe/rw7wOdF9yCx5gKW1srVULdteRuRby1mxrVIz2/Hk+J7P9F7YpaXonSQ5crIr8mLy3tP9ZcSObt20ehe/",
    "Wzy3e+a52CzapaCb7k6Y1ayDRx45evCoH0bDcVvPWkEUWxLl1DvSuLUsrWjAp1vGVmsD3sGK9WUzkFGDPp/rLz//E60b24muZesN",
    "XzctHtvZfi3dirygL/6vdm5qq+YF+WZiuPWdwxd7b6kfnJbxwpPv/XTnGqo95qIb4X6RnZl64MBHTzVv5jNyLlXzsdv4xP1u1fmq",
    "emVeNUQnkj+bvDUDcz56F7JNx4juy3hhZ/ROa6/agZd6B87a0k993ixZ6TpnQF1tUF2QrgvS2xW8VelH77Rjifod4bIvo0+EULXW",
    "w2TzlHrbjt4lhm9R9C9En6ONzodBZ05DMRzSkPEvJGc+qE6i7j0/2ZAJU9vm29f6J6OVI2L7X2TFlRejN99sxjxnvemL6a30rz/6",
    "ocnD6sX9jGi9FQ16cevWfCiDsCJX47kf7ZWsGHOibVKf9zn1QZrPJYxrsub56iPB6P/K09N3MWpTQ/fE4ftT0zj+7c/46gsAAAAA",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAALAV+a7/h187ffL4E09HyxO6brc4UDOtZduVB3zT",
    "WjmwWqtK164YotBdMisVXwaBUezvrruFathbKsW1X/y7l55VB/mVaHmb3nI2dRDL86XtLnmGmOiuZEQuriv1H2ds1XTsypjRXzvR",
    "28lUVGFE/zVVi97d+OFzP3VGmZyJNCb1XnsSJtaS/b76kmMGywsHDTHZuzohcjWvIo3Wccfbx80HoRk2AiOhM3musbQk/bL0fc9P",
    "uo433CWnESzL9FmseX4lKDtyKcwmmvJrtlvx1rJDDrRk+0Fqn4m2hVtJdddqyov+VzHveNaKrORFpv8o/RdmJhouxejiZvT1zak9",
    "o5/rEZe/eR0AAAC2EDm+VG9pzvzRN+fVV+wXZ4XYruvuSXzFrlu2nPc9L5yve34YfeGPKuYrctW2ZFbkLc9dsqt50f+df6IW2BfK",
    "oXnOkckvrJNxUz36hmu71XziV4Wevg1RiqQeefekKMSd5/LqV4Q2RiYjrkXlteutXxx6WdRlychGex7Tv1VEPWTifjLDLsZ7ROuL",
    "MQAAAAAAAAAAAAAA3FneOHHgr1XA4guzQuzQdXclAhb2I4cXFmRw7g6HKp5tXv6RVmyh2ermUjvwkOb1PfGUp1siwygAAAAAAAAA",
    "AAAAANg09j/+iK9CFd+LlnfquuGhimJ7MS8mfVkzbdd2q2U3yCUeAy7Ufel4ZiWbCAOMBaFZbT/s3GkrSFcFNiq6vtNXvuGq54bT",
    "m1+o235682LXcyau+IzzQ6GeHt4Z/6jN53Y9+PX2kyTtSEnySZJV2w9tb/6cszJft+w7HJ55fc+xkurcEH2PizQ7va13l9vhmUt6",
    "fTraY0o/Z6Keoh9fLBntJ0WORj/jP1vKxuulVufjz5Ry8fqcEB9Q685MJl5faD1hon7GPzkzxk0CAAAAAAAA8NZh3GAdAAAA3pl8",
    "7vj744DFv+wTnWcxbhiw6FZkRL61UkjmaW1VT4idFd9eVYlepRk2fJmK5OxuRSfa7eVAOtJKZYTd3d/LkK22t4In5dWozfMzyZSz",
    "5xuy0d412TgkH+6U7rEqXemb0Qm5yS126C2sZdOtpjPjZu3A17tkO8eKRYLCYsJPX9a4dVwUKzKwytW6mbxi4+aqaTuDWoqNQFYG",
    "NeQC+5dk6pQHX6YJxwzCcnyMZFNO9Z+sbAfXkmeer5u+SsnbTNiv+XYoz0XjKp0KuTOsDPH0XiFOuGLB0N9L1c/16yqEaGTFnI5y",
    "LehysVUWoy0yKj5VHNnbTZ3CSIMggggiiCCCCCKIIIIIIogggggiiCCCCCKIIIIIIogggggiiCCCCCKIIIIIIogggqMqaHzl9JkP",
    "t7N0TOvKIZNefbe6KVk6TugsHT1XrNSTpUMYneV2lo52xa4NZ+kYkJXDISsHAAAAAAAAwB39a8UN1gEAAOCdyfcL9/yeClh8a58Q",
    "u3TdDQMW3QqDLB1k6dhQlo6+wfPU3rhucC6OSzqW9YIur3RzcRg6CjWiEC5FEEEEEUQQQQQRRBBBBBFEEEEEEUQQQQQRRBBBBBFE",
    "EEEEEUQQQQQRRBBBBBFEEMFb5CvOL3xbzWz98qwQM7pubsi/P2c6jue5m5KO42Q6HcdcTzqOxXQ6jkt6vRSn48huIB1HKZdr9R+f",
    "zrjTTc8xKXR6jk+SngMAAAAAAADgrcS4zXUAAAB4e/I/n99xVQUtDu0XYreuu5mgxY7+yhxpOUjLsaG0HONuo1aum1UZJF+9vGmF",
    "DdNJVk/UPTvw3PJquikxGA1R2Rtnw0+k+cioNB8Z8YqOkV3V5bVumo8R+ZY71SpKupybGjHBBS22qMtToyY4FGLZCCKIIIIIIogg",
    "gggiiCCCCCKIIIIIIogggggiiCCCCCKIIIIIIogggggiiCCCW1ew2J3Cued9z51Us2dfmhXiLl133+DZs4H0bdPZlIwfx3XGj2ah",
    "s9VCT8aP5vCMH1Nxxg/jljJ+qAwfvRk/oioyfgAAAAAAAADcAcjoAQAAsDU59DtnvqNiFn/5sBDv0nU3EbPY3leXJd8H+T42lO9j",
    "rO75YVC4r792OjHSom3ykbV0U69xLpSOo69op5Mxs1JJG4z50qxcTNZOVKNrH5a9unSTTeOh51QGtkzq8Tewx/5bwhD1h6KzT2Ud",
    "GVNZR7KirnNlNHV5adRyZrygxa7ocn3UBF/RYld1ea0rmBO5UfhdZrpVlHQ5Nz1iggtabFGXp6ZH7CU+q8XqumyOmuAQFkd99sQi",
    "0zsQRBBBBBFEEEEEEUQQQQQRRBBBBBFEEEEEEUQQQQQRRBBBBBFEEEEEEURwc5lR0x/j2aSGYfDoTnwh/uYXL/2Jms38+7NCzOrK",
    "e5OzmZe9IJxfDTxrZVPyr5zW+Vd6RtJiT/6V9eH5V6bj/CvZW8q/opx786+ofCzkXwEAAAAAAAC4A3+uuM11AAAAeHty/u9//bdV",
    "xOJv9wlxt667YcSinSMkrjJIvkLylQ0lX0kMn6f2CpFJJSrJtBKVzO1q7bOgy8VWqXIwGPqfAthcTmmxs7qsdwVH4ztzU4td0uUL",
    "oyY4FKLxCCKIIIIIIogggggiiCCCCCKIIIIIIogggggiiCCCCCKIIIIIIogggggiiCCCW1bwn//hw+PthBx7dN29Q/55QSuwNyUh",
    "x+M6IUfPVLxTPQk5RKaznEzIsStOyJG7pYQcD4r+hBzKk4QcAAAAAAAAAG89xv/zOgAAALw9qPu/cVJFLB7eL8S7dd0NIxbbempy",
    "5OMgH8eG8nFMBNINolchEkq+fEWrcm5gw3a5Kt0wKNfsIEgfqHc8GsLcGx06leAj20rw8YpOS3FVl9dGLj3FTKso6XJuZsQEF7TY",
    "oi5PdQWzOlv/5nJWi9V12Rw1waEQZkcQQQQRRBBBBBFEEEEEEUQQQQQRRBBBBBFEEEEEEUQQQQQRRBBBBBFEEEEEEXyrOCvibBZC",
    "vBZ87z/VvNkJQ4h7dOPuxLzZeMLscsUQxXjJabgFMWGGoXTVNNL2TNP72n2Ph755sezVpZua3xi3OJ61kp77uF1+Qlph2ZfnGzII",
    "U3vWZMU2y/HsyVTbmm+HsmxFyjLZVlJTT327Hnp+OZ6umdygc0qGKHRrDzc+O9e+Kve+2VWxtsZVaU0//dHPfuqX1VV5cVaI9+gt",
    "7xk8x9qV4aYkhflgOylMpmeoNzu9LQ5PClOKk8JkbykpjOqoNynMpCApDAAAAAAAAMCdgCQwAAAAW5M/3f+b96uAxaML3UDMDQMW",
    "3Yo8KWFICbOhlDA7qipMV/aWlhzPrKSGQzYaecm6/JLthNJPDrGpnnHZ2mJ7vLuRTwjWfa9mB1Yqgmc6Tq3hhHbKPGpouKnqgusN",
    "3HzM9QZvfc4y0wHJyWjbsheN5ej815KNO+IDDG0es6IjhXo4dUbPtiXbj65ovGuyLRddj8Bo9vcztuqYbmD0BADj2roZ9ZNJXSRX",
    "nZ4ldc+d5p43AUP8934hvnT9zxcMsW508/BkdB4enZzlqi6vdZO0GMIYhd8qdreKki7ndncER+PXngUttqjLU7tH7QoOg8kmCCKI",
    "IIIIIogggggiiCCCCCKIIIIIIogggggiiCCCCCKIIIIIIogggggiiCCCW1bwU3F6lXXx0SfE9JEnhS55FglgFIjuxH/6xr+uq4cI",
    "XprVKbOEepgg8RDBsheE841A+vNLwaYkPvq4TnzUMxu63pP4qDk88dFUnPgoc0uJj/aK/sRH6hxIfAQAAAAAAABwR/5ksaF1AAAA",
    "eGfw2Ks/+I6KWby2T4j36rqbiFls76szSH9E+qMNpT9Kjp+n9na/cnYz5xhim1q6pPO9vKDLK6OWmGZdi72iy6ujJjgUZl8giCCC",
    "CCKIIIIIIogggggiiCCCCCKIIIIIIogggggiiCCCCCKIIIIIIogggggiOKqCrz348hE1xfXLs0Lcr+vmhk9xPeesbEpejmM6L0fP",
    "dMFmT16O9eF5OaZvIy/HBwR5OQAAAAAAAAA2A/JyAAAAbE1+61s/flwFLb69T4gHdN3NBC129FeSmYPMHBvLzJEaQMNSc+wURlZc",
    "0xkvxF2totQqi/EWxgh8U53TYgu6XOwKjvhXacK7CCKIIIIIIogggggiiCCCCCKIIIIIIogggggiiCCCCCKIIIIIIogggggiiCCC",
    "CI6q4F9de+BLJ3/+xJzKOPFg9HP6md89+384kfWy",
    NULL,
    };
    return lines;
}
/* clang-format on */

#endif
